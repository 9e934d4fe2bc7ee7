"""The page on plug-ins works as it is written, the examples and the script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tijepa
from tijepa.registry import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
*EXAMPLES, SCRIPT = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path) -> None:
    (folder / "program.py").write_text(program, encoding="utf-8")
    path = os.pathsep.join([str(Path(tijepa.__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "program.py"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr


def test_there_is_an_example_of_each_kind() -> None:
    shown = re.findall(r'@register\("(\w+)"', "".join(EXAMPLES))
    assert sorted(shown) == sorted(KINDS)
    assert all(f"`{kind}`" in PAGE for kind in shown)


def test_the_examples_work(tmp_path: Path) -> None:
    run("".join(EXAMPLES), tmp_path)


def test_the_script_trains_by_its_own_parts_in_thirty_lines(tmp_path: Path) -> None:
    lines = [line for line in SCRIPT.splitlines() if line.strip()]
    assert sum(not line.startswith(("import", "from")) for line in lines) <= 30
    run(SCRIPT, tmp_path)
    results = json.loads((tmp_path / "runs/greys/results.json").read_text())
    assert results["worst"]["energy"] >= 0
