"""Counted work tells how far it is also where there is no terminal."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console

from tijepa.cli import terminal
from tijepa.cli.terminal import ConsoleReporter


def test_a_pipe_gets_a_line_after_two_seconds_and_then_ever_rarer_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One item a second of 100: lines at 2, 4, …, 20 s, from then on a tenth of the time apart.

    After 2 s with 2 done the rest takes 2 · (100 / 2 − 1) = 98 s; 98 done leave 2 s.
    """
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=80)
    with ConsoleReporter(console).bar("encoding", 100) as advance:
        for second in range(1, 101):
            now = float(second)
            advance(1)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[:3] == [
        "encoding …",
        "encoding 2 of 100, 1 min 38 s left",
        "encoding 4 of 100, 1 min 36 s left",
    ]
    shown = [int(line.split()[1]) for line in lines[1:]]
    gaps = [b - a for a, b in itertools.pairwise(shown)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= 10


def test_work_of_unknown_size_is_counted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=80)
    with ConsoleReporter(console).bar("reading", None) as advance:
        now = 2.5
        advance(1217)
    assert console.file.getvalue() == "reading …\nreading 1,217\n"  # type: ignore[attr-defined]
