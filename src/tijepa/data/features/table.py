"""Features on disk: one modality of one split, memory-mapped, never decoded or copied whole.

A folder holds `features.json`, which says what the features were made of and how many there are,
and plain arrays end to end: `rows.u32`, how many rows each item has (captions; images 0 or 1),
`pooled.f32`, and where tokens are kept `lengths.u32`, tokens of each row, and `tokens.bf16`.

Pooled tokens are exact. Tokens are bfloat16: each value is off by at most 2^-8 = 0.4 % of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tijepa.errors import DataError

__all__ = [
    "COMPLETE",
    "FILES",
    "FeatureTable",
    "Features",
    "SplitFeatures",
    "open_table",
    "to_bf16",
]

COMPLETE = "features.json"
FILES: dict[str, tuple[str, np.dtype[Any]]] = {
    "rows": ("rows.u32", np.dtype("<u4")),
    "pooled": ("pooled.f32", np.dtype("<f4")),
    "lengths": ("lengths.u32", np.dtype("<u4")),
    "tokens": ("tokens.bf16", np.dtype("<u2")),
}


class FeatureTable:
    """Rows of features by item; thread-safe, for nothing in it changes.

    `broken` holds the reason for each item whose image could not be read.
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
        """Whether no tokens are kept beside the pooled ones."""
        return self._tokens is None

    def count(self, item: int) -> int:
        """How many rows an item has."""
        return int(self._first[item + 1] - self._first[item])

    def pooled(self, item: int) -> Float[Tensor, "r p"]:
        """The pooled tokens of all rows of an item."""
        rows = self._pooled[self._first[item] : self._first[item + 1]]
        return torch.from_numpy(np.array(rows))

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
    """The features of one split; None for a modality whose encoder runs in training."""

    image: FeatureTable | None = None
    text: FeatureTable | None = None

    @property
    def small(self) -> bool:
        """Whether both modalities are kept, by pooled tokens alone: some kB an item."""
        return all(t is not None and t.pooled_alone for t in (self.image, self.text))


def to_bf16(tokens: Tensor) -> NDArray[np.uint16]:
    """The bits of bfloat16 values, rounded to nearest even."""
    bits: NDArray[np.uint16] = tokens.to(torch.bfloat16).view(torch.uint16).numpy()
    return bits


def open_table(folder: Path, made_of: Mapping[str, Any]) -> FeatureTable:
    """Open a complete table; `made_of` is what it must have been made of.

    Raises `DataError` where it is stale (made of something else) or damaged, and says what to do.
    """
    path = folder / COMPLETE
    remedy = f"delete {folder} and start again, and they are made anew"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        ours = {name: found["made_of"].get(name) for name in made_of}
        for name, value in made_of.items():
            if ours[name] != value:
                raise DataError(
                    f"the features in {folder} are stale: their {name} is {ours[name]}, not {value}"
                    f"; {remedy}"
                )
        shapes = {name: tuple(shape) for name, shape in found["shapes"].items()}
        arrays = {name: _mapped(folder, name, shape) for name, shape in shapes.items()}
        broken = {int(item): str(reason) for item, reason in found["broken"].items()}
        return FeatureTable(arrays, broken)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"the features in {folder} are damaged ({error}); {remedy}") from None


def _mapped(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    file, dtype = FILES[name]
    path = folder / file
    expected = int(np.prod(shape)) * dtype.itemsize
    size = path.stat().st_size
    if size != expected:
        raise ValueError(f"{file} has {size:,} bytes instead of {expected:,}")
    if not expected:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape)


def _starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each group begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


# What a frozen encoder makes of items, so that it need not run again: pooled tokens and tokens.


@dataclass(frozen=True)
class Features:
    """Features of b images or captions; `mask` is False at padding.

    `tokens` and `mask` are None where pooled tokens alone are kept.
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
