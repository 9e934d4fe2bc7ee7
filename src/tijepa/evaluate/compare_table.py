"""Runs side by side in the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tijepa.evaluate.compare import Comparison
from tijepa.evaluate.formatting import DASH, count, number, percent, plain
from tijepa.evaluate.run_record import part, value

__all__ = ["print_comparison"]


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Results, then the settings that differ, with a run a column, as both grow only one way."""
    runs = comparison.runs
    table = _table(f"Retrieval by the default form of the energy: {comparison.where}")
    table.add_column("")
    for run in runs:
        table.add_column(Text(run.name, overflow="fold"), justify="right")
    table.add_row("objective", *(run.objective for run in runs))
    for name, field, show in (
        ("batch", "batch_size", count),
        ("learning rate", "lr", _general),
        ("steps", "steps", count),
        ("parameters", "parameters", count),
    ):
        table.add_row(name, *(_or_dash(getattr(run, field), show) for run in runs))
    table.add_section()
    for key, arrow in (("image_to_text", "i→t"), ("text_to_image", "t→i")):
        for k in (1, 5, 10):
            found = [value(part(run.retrieval, key), f"recall_at_{k}") for run in runs]
            best = max((one for one in found if not math.isnan(one)), default=math.nan)
            cells = [
                Text(_or_dash(one, percent), style="bold" if one == best else "") for one in found
            ]
            table.add_row(f"{arrow} R@{k}", *cells)
    table.add_row("energy", *(plain(run.form) if run.form else DASH for run in runs))
    table.add_row(
        "collapse",
        *(
            Text(run.verdict or DASH, style="bold red" if run.verdict == "collapsed" else "")
            for run in runs
        ),
    )
    table.add_section()
    table.add_row("s per step", *(_or_dash(run.seconds_per_step, number) for run in runs))
    table.add_row("pairs per s", *(_or_dash(run.pairs_per_second, number) for run in runs))
    console.print(table)
    if comparison.differing:
        console.print(_settings(comparison))
    for note in comparison.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _settings(comparison: Comparison) -> Table:
    table = _table("Settings that differ")
    table.add_column("", no_wrap=True)
    for run in comparison.runs:
        table.add_column(Text(run.name, overflow="fold"), justify="right", overflow="fold")
    for key, values in comparison.differing.items():
        table.add_row(key, *(DASH if one is None else str(one) for one in values))
    return table


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", title_style="bold")


def _general(reading: float) -> str:
    return f"{reading:g}"


def _or_dash(reading: float, show: Callable[[float], str]) -> str:
    return DASH if math.isnan(reading) else show(reading)
