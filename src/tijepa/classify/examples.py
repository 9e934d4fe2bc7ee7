"""The labelled items of a store as a run's model sees them: what every classifier is fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from tijepa.classify.features import Parts, item_features, kept_of
from tijepa.classify.labels import Items, Side, read_items
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.data.store.progress import watched
from tijepa.embedder import Embedder, load
from tijepa.evaluate.kept_beside import Kept
from tijepa.evaluate.probes import Examples, Head, cross_validate

__all__ = ["MAX_BAD", "Labelled", "labelled_examples", "out_of_fold"]

MAX_BAD = 0.01


@dataclass(frozen=True)
class Labelled:
    """`items` are those of a split with a label, `examples` their features and labels by number.

    `kept` is what training kept of the store's items, of any split.
    """

    embedder: Embedder
    splits: PairSplits
    items: Items
    unlabelled: int
    classes: list[str]
    examples: Examples
    kept: Kept


def labelled_examples(
    run: Path,
    store: str,
    label: str,
    *,
    split: str,
    side: Side,
    parts: Parts,
    same_text: bool = True,
    checkpoint: str | None,
    console: Console,
    device: torch.device | str,
) -> Labelled:
    """Load the model of a run and encode what `read_items` finds.

    Raises `DataError`, `ConfigError` and `CheckpointError`.
    """
    embedder = load(run, checkpoint=checkpoint, device=device)
    splits = open_splits(
        store, image_size=embedder.card.image_size, seed=0, max_bad=MAX_BAD, console=console
    )
    everything = read_items(splits, split, label, side, same_text=same_text)
    items = everything.labelled
    classes = items.classes
    labels = items.numbers(classes)
    kept = kept_of(embedder, items, side, parts, console)
    with watched(console, "encoding items", len(items)) as advance:
        features = item_features(embedder, items, side, parts, advance, kept=kept)
    examples = Examples(features, labels, items.group, len(classes), classes)
    return Labelled(embedder, splits, items, len(everything) - len(items), classes, examples, kept)


def out_of_fold(
    examples: Examples,
    fit: Callable[[Examples], Head],
    text: str,
    *,
    folds: int,
    seed: int,
    console: Console,
) -> Float[Tensor, "n c"]:
    """`cross_validate` with a line of progress that begins with `text`."""
    with watched(console, f"{text} in {folds} folds", folds) as advance:

        def fit_one(some: Examples) -> Head:
            head = fit(some)
            advance(1)
            return head

        return cross_validate(examples, fit_one, folds=folds, seed=seed)
