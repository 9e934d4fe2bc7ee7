"""Predict labels with a fitted classifier, into CSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from tijepa.classify.examples import MAX_BAD
from tijepa.classify.features import feature_batches, kept_of
from tijepa.classify.labels import Items, read_items
from tijepa.classify.saved import Classifier, load_classifier
from tijepa.data import open_splits
from tijepa.data.store.progress import watched
from tijepa.errors import ConfigError, DataError
from tijepa.evaluate.kept_beside import Kept
from tijepa.model.writing import whole

__all__ = ["Prediction", "predict_labels", "write_predictions"]

_FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Prediction:
    """The label of one item and the probability of every class."""

    item: str
    split: str
    label: str
    probabilities: dict[str, float]


def predict_labels(
    run: Path,
    store: str,
    out: Path,
    *,
    name: str,
    split: str | None = None,
    everything: bool = False,
    console: Console | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, int]:
    """Write predictions for the items without a label of `split` (of all splits where None).

    With `everything` also for those that have one. `out` ends with .csv (item, split, label,
    probability) or .jsonl (with the probability of every class) and is replaced. An item that lacks
    what the classifier needs gets none. Returns how many were predicted and, by reason, how many
    were left out. Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    if out.suffix not in _FORMATS:
        raise ConfigError(f"--out {out} ends with neither {' nor '.join(_FORMATS)}: rename it")
    console = console or Console(quiet=True)
    classifier = load_classifier(run, name, device=device)
    splits = open_splits(
        store,
        image_size=classifier.embedder.card.image_size,
        seed=0,
        max_bad=MAX_BAD,
        console=console,
    )
    names = list(splits.splits) if split is None else [split]
    wanted = []
    for each in names:
        found = read_items(splits, each, classifier.label, classifier.side)
        wanted.append(
            found if everything else found.where([label is None for label in found.labels])
        )
    total = sum(len(items) for items in wanted)
    if total == 0:
        raise DataError(
            f"no item of {splits.description} lacks a label in '{classifier.label}': use --all"
        )
    kept = kept_of(classifier.embedder, wanted[0], classifier.side, classifier.parts, console)
    with watched(console, "predicting", total) as advance:
        predictions = []
        for items in wanted:
            for prediction in _predicted(classifier, items, kept):
                predictions.append(prediction)
                advance(1)
    write_predictions(predictions, out)
    counts = {"predicted": total}
    for items in wanted:
        for reason, count in items.left_out.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def write_predictions(predictions: list[Prediction], out: Path) -> None:
    """Write CSV or JSON lines through a temporary neighbour, so that `out` is whole or absent."""
    with whole(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        if out.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(("item", "split", "label", "probability"))
            for p in predictions:
                writer.writerow((p.item, p.split, p.label, f"{p.probabilities[p.label]:.4f}"))
        else:
            for p in predictions:
                file.write(json.dumps(vars(p), ensure_ascii=False) + "\n")


def _predicted(classifier: Classifier, items: Items, kept: Kept) -> Iterator[Prediction]:
    batches = feature_batches(classifier.embedder, items, classifier.side, classifier.parts, kept)
    rows = (row for features in batches for row in classifier.probabilities(features).tolist())
    for item, row in zip(items.ids, rows, strict=True):
        by_class = dict(zip(classifier.classes, row, strict=True))
        label = max(by_class, key=lambda name: by_class[name])
        yield Prediction(item, items.split, label, by_class)
