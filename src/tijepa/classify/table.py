"""Scores of a classifier or probe in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tijepa.evaluate.formatting import count, percent
from tijepa.evaluate.terminal import say

__all__ = ["print_scores"]

_FIGURES = {"accuracy": "accuracy", "f1_weighted": "F1, weighted", "f1_macro": "F1, macro"}
_MOST_CLASSES = 12


def print_scores(console: Console, results: dict[str, Any]) -> None:
    """What was used, figures with their intervals, and the confusion matrix of a few classes."""
    left_out = "".join(f", {count(n)} left out ({why})" for why, n in results["left_out"].items())
    say(
        console,
        f"{count(results['items'])} items of {results['data']}, split {results['split']}, with a"
        f" label in '{results['label']}'; {count(results['unlabelled'])} without{left_out}",
    )
    for part, title in (("cross_validation", None), ("test", "split test")):
        if part in results:
            found = results[part]
            _print_part(console, found, title or f"{found['folds']} folds", results["classes"])


def _print_part(console: Console, found: dict[str, Any], title: str, classes: list[str]) -> None:
    figures = Table(title=f"{title}, {count(found['items'])} items")
    for heading in ("figure", "value", "95 % interval"):
        figures.add_column(heading, justify="left" if heading == "figure" else "right")
    for key, name in _FIGURES.items():
        one = found[key]
        figures.add_row(
            name, percent(one["value"]), f"{percent(one['low'])} to {percent(one['high'])}"
        )
    figures.add_row("accuracy of the most frequent class", percent(found["majority"]), "")
    console.print(figures)
    if len(classes) > _MOST_CLASSES:
        return
    matrix = Table(title="true class by row, predicted by column")
    matrix.add_column("")
    for name in classes:
        matrix.add_column(name, justify="right")
    for name, row in zip(classes, found["confusion"], strict=True):
        matrix.add_row(name, *(count(cell) for cell in row))
    console.print(matrix)
