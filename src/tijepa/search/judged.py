"""How well each caption of a store fits its own picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.embedder import Embedder, Form
from tijepa.errors import ConfigError, DataError
from tijepa.search.shelf import Shelf

__all__ = ["Judged", "check_keep", "judge", "keep_best", "match_probabilities"]

_BLOCK = 65_536


@dataclass(frozen=True)
class Judged:
    """n pairs: the store row of each, the number of its caption among the row's, its energy."""

    rows: NDArray[np.int64]
    captions: NDArray[np.int64]
    energies: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


def judge(shelf: Shelf, form: Form, rows: NDArray[np.int64] | None = None) -> Judged:
    """The energy of every caption with its own picture, of some store rows or of all.

    Items that lack a picture or captions are no pairs. Raises `DataError` where no pair is left.
    """
    images, texts = shelf.vectors("images"), shelf.vectors("texts")
    paired = np.isin(texts.rows, images.rows)
    if rows is not None:
        paired &= np.isin(texts.rows, rows)
    chosen = np.flatnonzero(paired)
    if not len(chosen):
        raise DataError("there is no pair of a picture and a caption to judge")
    own = np.searchsorted(images.rows, texts.rows[chosen])
    energies = np.empty(len(chosen))
    for start in range(0, len(chosen), _BLOCK):
        part = slice(start, start + _BLOCK)
        x = images.values[own[part]].astype(np.float64)
        energies[part] = -(x * texts.values[chosen[part]]).sum(axis=1)
    offset = 1.0 if form == "cosine" else 0.0
    return Judged(texts.rows[chosen], texts.numbers(chosen), energies + offset)


def check_keep(keep: float) -> None:
    """`ConfigError` where `keep` is no share that leaves something and drops something."""
    if not 0.0 < keep < 1.0:
        raise ConfigError(f"--keep is {keep}: it must lie between 0 and 1, both excluded")


def keep_best(judged: Judged, keep: float) -> NDArray[np.bool_]:
    """Which pairs are kept: the share `keep` of lowest energy, rounded, at least one.

    Of equal energies the first ones.
    """
    kept = np.zeros(len(judged), bool)
    count = max(1, round(keep * len(judged)))
    kept[np.argsort(judged.energies, kind="stable")[:count]] = True
    return kept


def match_probabilities(
    embedder: Embedder, energies: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The probability of match of each energy, None where the model has none."""
    if embedder.match is None:
        return None
    found: NDArray[np.float64] = embedder.match.probability(torch.from_numpy(energies)).numpy()
    return found
