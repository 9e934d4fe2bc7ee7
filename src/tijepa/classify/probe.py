"""Probe a run's model: what a linear head or its neighbours find in images, texts or pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from tijepa.classify.features import Parts, item_features
from tijepa.classify.labels import Side, read_items
from tijepa.data import open_splits
from tijepa.data.store.progress import watched
from tijepa.embedder import load
from tijepa.evaluate.probes import Examples, Head, cross_validate, fit_linear, fit_neighbours
from tijepa.evaluate.scores import score

__all__ = ["METHODS", "Method", "probe_run"]

Method = Literal["linear", "knn"]
METHODS: dict[str, Callable[..., Head]] = {"linear": fit_linear, "knn": fit_neighbours}
MAX_BAD = 0.01


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
    console: Console | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Scores of a probe on frozen features by cross-validation; keeps and writes nothing.

    Items are those of `read_items`, features those of `item_features`. Raises `DataError`,
    `ConfigError` and `CheckpointError`.
    """
    console = console or Console(quiet=True)
    embedder = load(run, checkpoint=checkpoint, device=device)
    splits = open_splits(
        store, image_size=embedder.card.image_size, seed=0, max_bad=MAX_BAD, console=console
    )
    everything = read_items(splits, split, label, side)
    items = everything.labelled
    classes = items.classes
    labels = items.numbers(classes)
    with watched(console, "encoding items", len(items)) as advance:
        features = item_features(embedder, items, side, parts, advance)
    with watched(console, f"probing in {folds} folds", folds) as advance:

        def fit(examples: Examples) -> Head:
            head = METHODS[method](examples, seed=seed)
            advance(1)
            return head

        examples = Examples(features, labels, items.group, len(classes))
        logits = cross_validate(examples, fit, folds=folds, seed=seed)
    found = score(labels, logits.argmax(dim=1), len(classes), groups=items.group).to_dict(classes)
    return {
        "label": label,
        "classes": classes,
        "data": splits.description,
        "split": split,
        "on": side,
        "method": method,
        "features": parts,
        "dimensions": features.shape[1],
        "items": len(items),
        "unlabelled": len(everything) - len(items),
        "left_out": items.left_out,
        "seed": seed,
        "cross_validation": {"folds": folds, **found},
    }
