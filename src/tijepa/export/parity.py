"""Whether a graph says what the model says: the largest difference over batches and lengths."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from tijepa.encoding.engine import Engine, TorchEngine
from tijepa.errors import CheckpointError
from tijepa.export.graphs import example_pixels, example_tokens
from tijepa.model.saving import ModelCard
from tijepa.objectives.embeddings import Embedded

__all__ = ["BOUND", "Parity", "check_parity", "parity"]

BOUND = 1e-4  # times the largest entry of an embedding, or 1 where that is smaller
_BATCHES = (1, 2, 5)  # none of them the batch that was traced, which is 3


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference of two engines, and how large it may be in float32."""

    max_abs_difference: float
    bound: float


def parity(torch_engine: TorchEngine, other: Engine, card: ModelCard, vocabulary: int) -> Parity:
    """Compare two engines of one model on noise and random tokens."""
    worst, scale = 0.0, 1.0
    for ours, theirs in _both(torch_engine, other, card, vocabulary):
        for a, b in ((ours.own, theirs.own), (ours.predicted, theirs.predicted)):
            found = float((a - b).abs().max())
            worst = max(worst, found if math.isfinite(found) else math.inf)
            scale = max(scale, float(a.abs().max()))
    return Parity(worst, BOUND * scale)


def check_parity(found: Parity) -> None:
    """Raise `CheckpointError` above the bound: graphs that say something else are of no use."""
    if found.max_abs_difference > found.bound:
        raise CheckpointError(
            "the exported graphs differ from the model by up to"
            f" {found.max_abs_difference:.2g}, more than {found.bound:.2g}: nothing was written,"
            " for an encoder of this model cannot be exported faithfully; use it in torch"
        )


def _both(
    one: TorchEngine, other: Engine, card: ModelCard, vocabulary: int
) -> Iterator[tuple[Embedded, Embedded]]:
    for seed, items in enumerate(_BATCHES, start=1):
        pixels = example_pixels(card, items, seed)
        yield one.images(pixels), other.images(pixels)
        length = max(1, card.max_tokens * seed // len(_BATCHES))
        tokens: tuple[Tensor, Tensor] = example_tokens(vocabulary, items, length, seed)
        yield one.texts(*tokens), other.texts(*tokens)
