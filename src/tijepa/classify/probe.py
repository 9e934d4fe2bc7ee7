"""Probe a run's model: what a linear head or its neighbours find in images, texts or pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from tijepa.classify.features import Parts, labelled_examples, out_of_fold
from tijepa.classify.labels import Side
from tijepa.evaluate.probes import Examples, Head, fit_linear, fit_neighbours
from tijepa.evaluate.scores import score
from tijepa.io.progress import SILENT, Reporter

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
