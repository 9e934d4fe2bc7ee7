"""How well each caption of a store fits its own image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.errors import ConfigError, DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.energies import Form
from tijepa.search.vector_store import VectorStore

_BLOCK = 65_536


@dataclass(frozen=True)
class PairScores:
    """n pairs: the store row of each, the number of its caption among the row's, its energy."""

    rows: NDArray[np.int64]
    captions: NDArray[np.int64]
    energies: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


def score_pairs(
    vector_store: VectorStore, form: Form, rows: NDArray[np.int64] | None = None
) -> PairScores:
    """The energy of every caption with its own image, of some store rows or of all.

    Items that lack an image or captions are no pairs. Raises `DataError` where no pair is left.
    """
    images, texts = vector_store.vectors("images"), vector_store.vectors("texts")
    paired = np.isin(texts.rows, images.rows)
    if rows is not None:
        paired &= np.isin(texts.rows, rows)
    chosen = np.flatnonzero(paired)
    if not len(chosen):
        raise DataError("there is no pair of an image and a caption to judge")
    own = np.searchsorted(images.rows, texts.rows[chosen])
    energies = pair_energies(images.values, own, texts.values, chosen, form)
    return PairScores(texts.rows[chosen], texts.numbers(chosen), energies)


def pair_energies(
    images: NDArray[np.floating],
    image_of_pair: NDArray[np.int64],
    texts: NDArray[np.floating],
    text_of_pair: NDArray[np.int64],
    form: Form,
) -> NDArray[np.float64]:
    """The energy of each pair of an image's and a text's row, in float64, block by block."""
    energies = np.empty(len(image_of_pair))
    for start in range(0, len(energies), _BLOCK):
        part = slice(start, start + _BLOCK)
        x = images[image_of_pair[part]].astype(np.float64)
        energies[part] = -(x * texts[text_of_pair[part]]).sum(axis=1)
    return energies + (1.0 if form == "cosine" else 0.0)


def check_keep(keep: float) -> None:
    """`ConfigError` where `keep` is no share that leaves something and drops something."""
    if not 0.0 < keep < 1.0:
        raise ConfigError(f"`keep` is {keep}: it must lie between 0 and 1, both excluded")


def kept_count(keep: float, total: int) -> int:
    """How many of `total` the share `keep` is: rounded, at least one."""
    return max(1, round(keep * total))


def keep_best(scores: PairScores, keep: float) -> NDArray[np.bool_]:
    """Which pairs are kept: the share `keep` of lowest energy, of equal energies the first ones."""
    kept = np.zeros(len(scores), bool)
    order = np.argsort(scores.energies, kind="stable")
    kept[order[: kept_count(keep, len(scores))]] = True
    return kept


def match_probabilities(
    embedder: Embedder, energies: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The probability of match of each energy, None where the model has none."""
    if embedder.match is None:
        return None
    found: NDArray[np.float64] = embedder.match.probability(torch.from_numpy(energies)).numpy()
    return found
