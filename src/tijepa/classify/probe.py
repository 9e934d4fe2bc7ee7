"""Probe a run's model: what a linear head or its neighbours find in images, texts or pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from tijepa.classify.features import Parts, labelled_examples, out_of_fold
from tijepa.classify.labels import Side
from tijepa.evaluate.probes import Examples, Head, fit_linear, fit_neighbours
from tijepa.evaluate.scores import score
from tijepa.io.formatting import count, percent
from tijepa.io.progress import SILENT, Reporter

__all__ = ["METHODS", "Method", "print_scores", "probe_run"]

Method = Literal["linear", "knn"]
METHODS: dict[str, Callable[..., Head]] = {"linear": fit_linear, "knn": fit_neighbours}


def probe_run(
    run: Path,
    store: str,
    label: str,
    *,
    side: Side = "pair",
    method: Method = "linear",
    split: str = "train",
    parts: Parts = "both",
    folds: int = 5,
    checkpoint: str | None = None,
    seed: int = 0,
    reporter: Reporter = SILENT,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Scores of a probe on frozen features by cross-validation; keeps and writes nothing.

    Items are those of `read_items`, features those of `item_features`. Raises `DataError`,
    `ConfigError` and `CheckpointError`.
    """
    known = labelled_examples(
        run,
        store,
        label,
        split=split,
        side=side,
        parts=parts,
        checkpoint=checkpoint,
        reporter=reporter,
        device=device,
    )
    items, classes, examples = known.items, known.classes, known.examples

    def fit(some: Examples) -> Head:
        return METHODS[method](some, seed=seed)

    logits = out_of_fold(examples, fit, "probing", folds=folds, seed=seed, reporter=reporter)
    named = logits.argmax(dim=1)
    found = score(examples.labels, named, len(classes), groups=items.group).to_dict(classes)
    return {
        "label": label,
        "classes": classes,
        "data": known.splits.description,
        "split": split,
        "on": side,
        "method": method,
        "features": parts,
        "dimensions": examples.features.shape[1],
        "items": len(items),
        "unlabelled": known.unlabelled,
        "left_out": items.left_out,
        "seed": seed,
        "cross_validation": {"folds": folds, **found},
    }


# Scores of a classifier or probe in the terminal.


_FIGURES = {"accuracy": "accuracy", "f1_weighted": "F1, weighted", "f1_macro": "F1, macro"}
_MOST_CLASSES = 12


def print_scores(console: Console, results: dict[str, Any]) -> None:
    """What was used, figures with their intervals, and the confusion matrix of a few classes."""
    left_out = "".join(f", {count(n)} left out ({why})" for why, n in results["left_out"].items())
    console.print(
        f"{count(results['items'])} items of {results['data']}, split {results['split']}, with a"
        f" label in '{results['label']}'; {count(results['unlabelled'])} without{left_out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
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
