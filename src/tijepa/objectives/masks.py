"""What is visible and what is predicted: blocks of patches and spans of tokens.

Every patch can be a target and a context patch, the marginals are symmetric under flips, and area
and aspect of a block are independent; I-JEPA's public collator has none of the three (it never
makes the last row and column a target, keeps the top of a ragged context, and draws area and
aspect from one number). Ragged sets are padded and masked instead of trimmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.encoded import TokenSubset

ATTEMPTS = 1000
SHORTEST = 3  # tokens of a caption of which one can be hidden: the first, one seen, one hidden


@dataclass(frozen=True)
class Masks:
    """For one modality: what the context encoder sees, and what is to be predicted.

    `blocks` are the target blocks one by one, which may overlap; `target` is their union.
    """

    context: TokenSubset
    target: TokenSubset
    blocks: tuple[TokenSubset, ...] = ()

    def part(self, start: int, stop: int) -> Masks:
        """Rows `start` to `stop`, for one micro-batch."""
        return self._each(lambda tensor: tensor[start:stop])

    def to(self, device: torch.device) -> Masks:
        """The same masks on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Masks:
        def changed(part: TokenSubset) -> TokenSubset:
            return TokenSubset(change(part.index), change(part.mask))

        blocks = tuple(changed(block) for block in self.blocks)
        return Masks(changed(self.context), changed(self.target), blocks)


@dataclass(frozen=True)
class BlockMasks:
    """Multi-block masks on a square grid of patches (I-JEPA, arXiv 2301.08243, section 3).

    The targets are the union of `blocks` rectangles; the context is one large square-ish block
    minus the targets. Scales are shares of the grid's area; aspect is height over width, drawn
    log-uniformly so that a block and its transpose are equally likely when the range is
    symmetric in the logarithm.
    """

    grid: int
    blocks: int = 4
    scale: tuple[float, float] = (0.15, 0.2)
    aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)

    def draw(self, count: int, rng: np.random.Generator) -> Masks:
        """Masks for `count` images. Context and target are never empty.

        Raises `ConfigError` where the target blocks hide all of the context block every time.
        """
        hidden = np.zeros((self.blocks, count, self.grid, self.grid), dtype=bool)
        shown = np.zeros((count, self.grid, self.grid), dtype=bool)
        for item in range(count):
            self._draw_one(hidden[:, item], shown[item], rng)
        flat = (count, self.grid**2)
        return Masks(
            context=_padded(shown.reshape(flat)),
            target=_padded(hidden.any(axis=0).reshape(flat)),
            blocks=tuple(_padded(block.reshape(flat)) for block in hidden),
        )

    def _draw_one(self, hidden: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> None:
        for _ in range(ATTEMPTS):
            hidden[:] = False
            for block in hidden:
                self._rectangle(block, self.scale, self.aspect, rng)
            shown[:] = False
            self._rectangle(shown, self.context_scale, (1.0, 1.0), rng)
            shown &= ~hidden.any(axis=0)
            if shown.any():
                return
        raise ConfigError(
            f"objective.masks: {self.blocks} target blocks of scale {list(self.scale)} hid the "
            f"whole context block in {ATTEMPTS} draws on a grid of {self.grid} x {self.grid} "
            "patches; lower target_scale or target_blocks, or model.image.patch_size"
        )

    def _rectangle(
        self,
        canvas: np.ndarray,
        scale: tuple[float, float],
        aspect: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        area = rng.uniform(*scale) * self.grid**2
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        height = _side(math.sqrt(area * ratio), self.grid, rng)
        width = _side(math.sqrt(area / ratio), self.grid, rng)
        top = int(rng.integers(0, self.grid - height + 1))
        left = int(rng.integers(0, self.grid - width + 1))
        canvas[top : top + height, left : left + width] = True


def _side(length: float, grid: int, rng: np.random.Generator) -> int:
    """Round at random so that the mean side is `length` also on coarse grids; 1 to `grid`."""
    return min(grid, max(1, int(length + rng.random())))


@dataclass(frozen=True)
class SpanMasks:
    """Hidden spans of a caption's tokens; the first token of a caption always stays visible."""

    hidden: float = 0.4
    span: int = 3

    def draw(self, lengths: Sequence[int], rng: np.random.Generator) -> Masks:
        """Masks for captions of `lengths` tokens, the first token counted in.

        Of the n = length − 1 words, h = round(hidden · n) are hidden (at least 1, at most n − 1)
        in about h / span spans; hidden and visible words are cut into spans and gaps uniformly at
        random, so every word can be hidden and the marginals are symmetric. Captions of fewer than
        two words (`SHORTEST` tokens) get an empty target.
        """
        longest = max(lengths)
        hidden = np.zeros((len(lengths), longest), dtype=bool)
        shown = np.zeros_like(hidden)
        for row, length in enumerate(lengths):
            shown[row, :length] = True
            words = length - 1
            if length < SHORTEST:
                continue
            count = min(words - 1, max(1, round(self.hidden * words)))
            spans = min(max(1, round(count / self.span)), count, words - count + 1)
            sizes = _composition(count, spans, rng)
            # inner gaps hold at least one visible word, the outer two may be empty; the last gap
            # is what remains
            gaps = _composition(words - count + 2, spans + 1, rng)
            gaps[0] -= 1
            at = 1
            for gap, size in zip(gaps[:-1], sizes, strict=True):
                at += gap
                hidden[row, at : at + size] = True
                at += size
        shown &= ~hidden
        return Masks(context=_padded(shown), target=_padded(hidden))


def _composition(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """`total` as an ordered sum of `parts` positive integers, uniform among all such sums."""
    cuts = np.sort(rng.choice(total - 1, size=parts - 1, replace=False)) + 1
    edges = [0, *cuts.tolist(), total]
    return [b - a for a, b in pairwise(edges)]


def _padded(chosen: np.ndarray) -> TokenSubset:
    """Boolean rows → index rows of equal length and their mask; at least one column."""
    counts = chosen.sum(axis=1)
    width = max(1, int(counts.max(initial=0)))
    index = np.zeros((len(chosen), width), dtype=np.int64)
    rows, columns = np.nonzero(chosen)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    index[rows, np.arange(len(rows)) - np.repeat(starts, counts)] = columns
    mask = np.arange(width)[None, :] < counts[:, None]
    tensor_index: Int[Tensor, "b k"] = torch.from_numpy(index)
    tensor_mask: Bool[Tensor, "b k"] = torch.from_numpy(mask)
    return TokenSubset(index=tensor_index, mask=tensor_mask)
