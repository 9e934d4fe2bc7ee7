"""What frozen encoders gave for items, so that they need not run again: pooled tokens and tokens.

Pooled tokens are exact. Tokens are bfloat16: each value is off by at most 2^-8 = 0.4 % of itself.
`inference/feature_cache.py` makes them, once, and finds them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, Modality] = ("image", "text")


@dataclass(frozen=True)
class Features:
    """Features of b images or captions; `mask` is False at padding.

    `tokens` and `mask` are None where pooled tokens alone are cached.
    """

    pooled: Float[Tensor, "b p"]
    tokens: Float[Tensor, "b n d"] | None = None
    mask: Bool[Tensor, "b n"] | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def to(self, device: torch.device | str) -> Features:
        """The same on `device`."""
        return Features(
            self.pooled.to(device, non_blocking=True),
            None if self.tokens is None else self.tokens.to(device, non_blocking=True),
            None if self.mask is None else self.mask.to(device, non_blocking=True),
        )

    def rows(self, index: slice | Int[Tensor, " r"]) -> Features:
        """Some rows, in that order."""
        return Features(
            self.pooled[index],
            None if self.tokens is None else self.tokens[index],
            None if self.mask is None else self.mask[index],
        )

    def roll(self, shift: int) -> Features:
        """Every row `shift` places further, the last ones to the front."""
        return self.rows(torch.arange(len(self)).roll(shift))


class FeatureTable:
    """Features of one modality of one split, by item; thread-safe, for nothing in it changes.

    `arrays` may lie on disk: "rows" says how many rows each item has (captions; images 0 or 1),
    "pooled" (r, p) holds all rows, and where tokens are cached "lengths" the tokens of each row and
    "tokens" (t, d) their bits. `broken` holds the reason for each item whose image could not be
    read.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], broken: Mapping[int, str]) -> None:
        self.broken = broken
        self._first = _starts(arrays["rows"])
        self._pooled = arrays["pooled"]
        self._tokens = arrays.get("tokens")
        self._start = _starts(arrays["lengths"]) if "lengths" in arrays else None

    def __len__(self) -> int:
        """Number of items."""
        return len(self._first) - 1

    @property
    def pooled_alone(self) -> bool:
        """Whether no tokens are cached beside the pooled ones."""
        return self._tokens is None

    def count(self, item: int) -> int:
        """How many rows an item has."""
        return int(self._first[item + 1] - self._first[item])

    def pooled(self, item: int) -> Float[Tensor, "r p"]:
        """The pooled tokens of all rows of an item."""
        rows = self._pooled[self._first[item] : self._first[item + 1]]
        return torch.from_numpy(np.array(rows))

    def block(self, start: int, stop: int) -> tuple[Int[Tensor, " n"], Float[Tensor, "r p"]]:
        """How many rows each of the items `start` to `stop` has, and the pooled tokens of all."""
        first = self._first[start : stop + 1]
        rows = np.array(self._pooled[first[0] : first[-1]])
        return torch.from_numpy(np.diff(first)), torch.from_numpy(rows)

    def take(self, items: Sequence[int], choices: Sequence[int | None]) -> Features:
        """Row `choices[k]` of item `items[k]`; zeros, without tokens, where it is None."""
        wanted = [
            None if choice is None else int(self._first[item]) + choice
            for item, choice in zip(items, choices, strict=True)
        ]
        pooled = np.zeros((len(wanted), self._pooled.shape[1]), dtype=np.float32)
        for k, row in enumerate(wanted):
            if row is not None:
                pooled[k] = self._pooled[row]
        if self._tokens is None or self._start is None:
            return Features(torch.from_numpy(pooled))
        parts = [
            None if row is None else self._tokens[self._start[row] : self._start[row + 1]]
            for row in wanted
        ]
        longest = max((len(part) for part in parts if part is not None), default=0)
        bits = np.zeros((len(wanted), longest, self._tokens.shape[1]), dtype=np.uint16)
        mask = np.zeros((len(wanted), longest), dtype=np.bool_)
        for k, part in enumerate(parts):
            if part is not None:
                bits[k, : len(part)] = part
                mask[k, : len(part)] = True
        tokens = torch.from_numpy(bits).view(torch.bfloat16).float()
        return Features(torch.from_numpy(pooled), tokens, torch.from_numpy(mask))


@dataclass(frozen=True)
class SplitFeatures:
    """The features of one split; None for a modality whose encoder has to run."""

    image: FeatureTable | None = None
    text: FeatureTable | None = None

    @property
    def small(self) -> bool:
        """Whether both modalities are cached, by pooled tokens alone: some kB an item."""
        return all(t is not None and t.pooled_alone for t in (self.image, self.text))

    def pairs(
        self, at_once: int = 1024
    ) -> Iterator[tuple[Float[Tensor, "i p"], Float[Tensor, "t q"], Int[Tensor, " i"]]]:
        """Pooled tokens of images and of their captions, and how many each has.

        Of `at_once` items at a time, from the first to the last; those without an image are left
        out. Both modalities must be there.
        """
        assert self.image is not None
        assert self.text is not None
        for start in range(0, len(self.image), at_once):
            stop = min(start + at_once, len(self.image))
            seen, images = self.image.block(start, stop)
            captions, texts = self.text.block(start, stop)
            yield images, texts[(seen > 0).repeat_interleave(captions)], captions[seen > 0]


class RowFeatures:
    """The cached features of one modality, by row of the store.

    `tables` are those of the splits that have them, each with the store row of every item.
    """

    def __init__(
        self, tables: Sequence[tuple[FeatureTable, NDArray[np.integer[Any]]]], rows: int
    ) -> None:
        self._tables = [table for table, _ in tables]
        self._table = np.full(rows, -1, np.int16)
        self._item = np.zeros(rows, np.int64)
        for number, (_, of_item) in enumerate(tables):
            self._table[of_item] = number
            self._item[of_item] = np.arange(len(of_item))

    def __len__(self) -> int:
        """Number of rows whose features are there."""
        return int((self._table >= 0).sum())

    def covers(self, row: int) -> bool:
        """Whether the features of this row are there."""
        return bool(self._table[row] >= 0)

    def unreadable(self, row: int) -> bool:
        """Whether the row has an image that could not be read."""
        return int(self._item[row]) in self._of(row).broken

    def pooled(self, row: int) -> Float[Tensor, "c p"]:
        """The pooled tokens of a row's captions, or of its image."""
        return self._of(row).pooled(int(self._item[row]))

    def _of(self, row: int) -> FeatureTable:
        return self._tables[int(self._table[row])]


StoreFeatures = Mapping[Modality, RowFeatures]  # of the modalities that have some


def _starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each group begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
