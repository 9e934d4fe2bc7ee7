"""The end of a sweep in the terminal: its runs, best first."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tijepa.evaluate.formatting import DASH, percent
from tijepa.evaluate.run_record import part, value
from tijepa.train.sweep import Outcome

__all__ = ["print_sweep"]


def print_sweep(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One row a run, by validation recall at 1 (mean of both directions, best healthy step)."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text("Runs by validation recall at 1, mean of both directions"),
        title_justify="left",
        title_style="bold",
    )
    keys = list(outcomes[0].cell.values) if outcomes else []
    for key in keys or ["run"]:
        table.add_column(key.rpartition(".")[2], justify="right", overflow="fold")
    for heading in ("validation", "i→t R@1", "t→i R@1", "collapse", "status"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in sorted(outcomes, key=_validation, reverse=True):
        retrieval = part(one.results, "retrieval")
        recalls = [
            value(part(retrieval, direction), "recall_at_1")
            for direction in ("image_to_text", "text_to_image")
        ]
        table.add_row(
            *([str(one.cell.values[key]) for key in keys] or [one.cell.name]),
            DASH if one.validation is None else percent(one.validation),
            *(DASH if recall != recall else percent(recall) for recall in recalls),
            str(part(one.results, "collapse").get("verdict", DASH)),
            one.status,
        )
    console.print(table)


def _validation(one: Outcome) -> float:
    return -1.0 if one.validation is None else one.validation
