"""docs/reliability.md names tests that exist, and every case of data that can be lost."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert named
    lacking = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert lacking == []


def test_every_case_of_lost_data_has_a_row() -> None:
    assert {f"A{number}" for number in range(1, 15)} <= set(re.findall(r"\| (A\d+) \|", PAGE))
