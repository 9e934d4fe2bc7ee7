"""What a classifier sees of an item: the model's view of its image, its text, or both.

Of a pair that is the pooled tokens of both context encoders beside what the model makes of them
together: for a model with a fusion the mean of its fused tokens (arXiv 2503.06380), for any other
`tijepa.inference.embeddings.pair_features`. Of an image or a text alone it is the pooled token
beside embedding and prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.classify.labels import Items, Side, read_items
from tijepa.data import open_splits
from tijepa.data.features import Modality, RowFeatures, StoreFeatures
from tijepa.data.images import prepare
from tijepa.data.pairs import PairSplits
from tijepa.errors import DataError
from tijepa.evaluate.probes import Examples, Head, cross_validate
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embeddings, embed, pair_features
from tijepa.inference.feature_cache import FeatureCache
from tijepa.inference.loading import load
from tijepa.io.progress import Reporter
from tijepa.objectives.forward import encode_modality

Parts = Literal["both", "encoders", "embeddings"]

_AT_ONCE = 64  # items encoded together


def batch_features(
    embedder: Embedder,
    side: Side,
    images: Float[Tensor, "n 3 s s"] | None,
    texts: Sequence[str] | None,
    parts: Parts = "both",
) -> Float[Tensor, "n f"]:
    """Features of n items on the model's device, with gradient where gradients are enabled.

    Cropped and normalised images and texts are given as `side` needs them. "encoders" are the
    pooled tokens alone, "embeddings" what the model adds to them, "both" is both, in that order.
    """
    context = embedder.model.context
    image = text = fused = None
    if images is not None and side != "text":
        image = encode_modality(context, "image", images.to(embedder.device))
    if texts is not None and side != "image":
        tokens = embedder.tokenizer.encode(list(texts), embedder.card.max_tokens)
        ids, mask = tokens.ids.to(embedder.device), tokens.mask.to(embedder.device)
        text = encode_modality(context, "text", ids, mask)
    if _fuses(embedder, side, parts):
        assert image is not None
        assert text is not None
        assert context.fusion is not None
        fused = context.fusion(image, text).pooled
    return _joined(
        embedder,
        None if image is None else image.pooled,
        None if text is None else text.pooled,
        fused,
        parts,
    )


def _fuses(embedder: Embedder, side: Side, parts: Parts) -> bool:
    """Whether features need the tokens of both encoders, not the pooled ones alone."""
    return embedder.model.context.fusion is not None and side == "pair" and parts != "encoders"


def _joined(
    embedder: Embedder,
    image: Float[Tensor, "n p"] | None,
    text: Float[Tensor, "n q"] | None,
    fused: Float[Tensor, "n w"] | None,
    parts: Parts,
) -> Float[Tensor, "n f"]:
    """The parts that are wanted, from pooled and fused tokens."""
    pooled = [x for x in (image, text) if x is not None]
    if parts == "encoders":
        return torch.cat(pooled, dim=1)
    known = _embeddings(embedder, image, text) if fused is None else fused
    return known if parts == "embeddings" else torch.cat([*pooled, known], dim=1)


def _embeddings(
    embedder: Embedder, image: Float[Tensor, "n p"] | None, text: Float[Tensor, "n q"] | None
) -> Tensor:
    """Pair features, or embedding and prediction of the one side there is, at length √D each."""
    model, predicts = embedder.model, embedder.predicts
    of_image = None if image is None else embed(model, "image", image)
    of_text = None if text is None else embed(model, "text", text)
    if of_image is not None and of_text is not None:
        return pair_features(Embeddings.of(of_image, of_text), predicts=predicts)
    e = of_image or of_text
    assert e is not None
    size = e.embedding.shape[1] ** 0.5
    parts = (e.embedding, e.prediction)[: 1 + predicts]
    return torch.cat([size * F.normalize(x, dim=1) for x in parts], dim=1)


def item_features(
    embedder: Embedder,
    items: Items,
    side: Side,
    parts: Parts = "both",
    advance: Callable[[int], None] = lambda count: None,
    *,
    cached: StoreFeatures | None = None,
) -> Float[Tensor, "n f"]:
    """Features of all items with the model as it is, on the CPU and without gradient.

    Pooled tokens that are `cached` are read, and what made them does not run again.
    """
    found = []
    for features in feature_batches(embedder, items, side, parts, cached or {}):
        found.append(features)
        advance(len(features))
    if not found:
        raise DataError(f"split '{items.split}' has no item to classify: give another `split`")
    return torch.cat(found)


def feature_batches(
    embedder: Embedder, items: Items, side: Side, parts: Parts, cached: StoreFeatures
) -> Iterator[Float[Tensor, "b f"]]:
    """The same, some items at a time, in order."""
    embedder.model.eval()
    for start in range(0, len(items), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(items)))
        with torch.no_grad():
            features = _of_rows(embedder, items, rows, side, parts, cached).float().cpu()
        yield features


def cached_of(
    embedder: Embedder, items: Items, side: Side, parts: Parts, reporter: Reporter
) -> StoreFeatures:
    """What is cached of the items, as far as their features can be made of it."""
    if _fuses(embedder, side, parts):
        return {}
    return FeatureCache.open(embedder, items.source.store, reporter, _modalities(side)).rows()


def _modalities(side: Side) -> tuple[Modality, ...]:
    return ("image", "text") if side == "pair" else (side,)


def _of_rows(
    embedder: Embedder,
    items: Items,
    rows: Sequence[int],
    side: Side,
    parts: Parts,
    cached: StoreFeatures,
) -> Tensor:
    wanted = _modalities(side)
    pooled = {m: _read(cached[m], items, rows) for m in wanted if m in cached}
    read = {m: x.to(embedder.device) for m, x in pooled.items() if x is not None}
    if not read:
        return batch_features(embedder, side, *read_inputs(embedder, items, rows, side), parts)
    for modality in wanted:
        if modality not in read:
            inputs = read_inputs(embedder, items, rows, modality)
            read[modality] = batch_features(embedder, modality, *inputs, "encoders")
    return _joined(embedder, read.get("image"), read.get("text"), None, parts)


def _read(cached: RowFeatures, items: Items, rows: Sequence[int]) -> Float[Tensor, "n p"] | None:
    """The pooled token of each image or first caption; None where one is not cached."""
    own = [int(row) for row in items.source.rows[np.array([items.rows[k] for k in rows])]]
    if not all(cached.covers(row) for row in own):
        return None
    for k, row in zip(rows, own, strict=True):
        if cached.unreadable(row):
            raise DataError(
                f"item {items.ids[k]}: its image could not be read; prepare the store anew"
            )
    return torch.stack([cached.pooled(row)[0] for row in own])


def read_inputs(
    embedder: Embedder, items: Items, rows: Sequence[int], side: Side
) -> tuple[Float[Tensor, "n 3 s s"] | None, list[str] | None]:
    """Images, cropped and normalised as the model wants them, and first captions of some items."""
    indexes = [items.rows[k] for k in rows]
    if side == "text":
        return None, [captions[0] for captions in items.source.texts(indexes)]
    card = embedder.card
    read = items.source.read(indexes)
    images = []
    for row, item in zip(rows, read, strict=True):
        assert item.image is not None
        try:
            pixels = item.image.pixels(card.image_size)
        except DataError as error:
            raise DataError(f"item {items.ids[row]}: {error}; prepare the store anew") from None
        images.append(prepare(pixels, card.image_size, card.mean, card.std))
    return torch.stack(images), [item.captions[0] for item in read] if side == "pair" else None


# The labelled items of a store as a run's model sees them: what every classifier is fitted to.


MAX_BAD = 0.01


@dataclass(frozen=True)
class Labelled:
    """`items` are those of a split with a label, `examples` their features and labels by number.

    `cached` is what the feature cache holds of the store's items, of any split.
    """

    embedder: Embedder
    splits: PairSplits
    items: Items
    unlabelled: int
    classes: list[str]
    examples: Examples
    cached: StoreFeatures


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
    reporter: Reporter,
    device: torch.device | str,
) -> Labelled:
    """Load the model of a run and encode what `read_items` finds.

    Raises `DataError`, `ConfigError` and `CheckpointError`.
    """
    embedder = load(run, checkpoint=checkpoint, device=device)
    splits = open_splits(
        store, image_size=embedder.card.image_size, seed=0, max_bad=MAX_BAD, reporter=reporter
    )
    everything = read_items(splits, split, label, side, same_text=same_text)
    items = everything.labelled
    classes = items.classes
    labels = items.numbers(classes)
    cached = cached_of(embedder, items, side, parts, reporter)
    with reporter.bar("encoding items", len(items)) as advance:
        features = item_features(embedder, items, side, parts, advance, cached=cached)
    examples = Examples(features, labels, items.group, len(classes), classes)
    return Labelled(
        embedder, splits, items, len(everything) - len(items), classes, examples, cached
    )


def out_of_fold(
    examples: Examples,
    fit: Callable[[Examples], Head],
    text: str,
    *,
    folds: int,
    seed: int,
    reporter: Reporter,
) -> Float[Tensor, "n c"]:
    """`cross_validate` with a line of progress that begins with `text`."""
    with reporter.bar(f"{text} in {folds} folds", folds) as advance:

        def fit_one(some: Examples) -> Head:
            head = fit(some)
            advance(1)
            return head

        return cross_validate(examples, fit_one, folds=folds, seed=seed)
