"""Pseudo-pairs: the text that each image without caption is nearest to, and the other way round.

Shape letters: i images, t texts, j numbers of a joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.errors import DataError
from tijepa.inference.calibration import Form
from tijepa.search.pair_energies import energies_of_rows, kept_count
from tijepa.search.vector_store import SIDES, Side, Vectors, VectorStore

_BLOCK = 8192  # images and texts multiplied at once: 256 MiB of products


@dataclass(frozen=True)
class PseudoPairs:
    """n pseudo-pairs, lowest energy first: the store rows of image and text, and the energy.

    `mutual` are those in which each chose the other.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    energies: NDArray[np.float64]
    mutual: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.energies)

    def best(self, share: float) -> PseudoPairs:
        """The share of lowest energy, as `kept_count` says."""
        kept = slice(kept_count(share, len(self)))
        return PseudoPairs(
            self.images[kept], self.texts[kept], self.energies[kept], self.mutual[kept]
        )


def unpaired(vector_store: VectorStore, rows: NDArray[np.int64]) -> dict[Side, NDArray[np.int64]]:
    """Positions of the vectors whose store row is one of `rows` and lacks the other modality.

    Raises `DataError` where either kind is missing.
    """
    images, texts = (vector_store.vectors(side).rows for side in SIDES)
    found: dict[Side, NDArray[np.int64]] = {
        "images": np.flatnonzero(np.isin(images, rows) & ~np.isin(images, texts)),
        "texts": np.flatnonzero(np.isin(texts, rows) & ~np.isin(texts, images)),
    }
    if not len(found["images"]) or not len(found["texts"]):
        raise DataError(
            f"{len(found['images']):,} images without caption and {len(found['texts']):,}"
            " captions without image: pseudo-pairs need some of both, in the train split"
        )
    return found


def find_pseudo_pairs(
    vector_store: VectorStore,
    form: Form,
    alone: dict[Side, NDArray[np.int64]],
    advance: Callable[[int], None] = lambda count: None,
) -> PseudoPairs:
    """Each image of `alone` with the text of lowest energy, and each text with its image.

    `alone` is what `unpaired` found. A store row of several captions is one text: its energy
    is the mean over them. `advance` is told how many images were compared.
    """
    images, texts = vector_store.vectors("images"), vector_store.vectors("texts")
    rows, means = _row_means(texts, alone["texts"])
    values = images.values[alone["images"]].astype(np.float32)
    at_image, at_text, mutual = nearest_pairs(values, means, advance)
    energies = energies_of_rows(values, at_image, means, at_text, form)
    order = np.argsort(energies, kind="stable")
    return PseudoPairs(
        images.rows[alone["images"][at_image[order]]],
        rows[at_text[order]],
        energies[order],
        mutual[order],
    )


def nearest_pairs(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Positions in (i, j) and (t, j) of every row and its largest inner product on the other side.

    Each pair once, in order, and whether it is the largest of both. All products are computed,
    block by block; of equal ones the first counts.
    """
    best_text, best_image = _Best(len(images)), _Best(len(texts))
    for a in range(0, len(images), _BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(images[a : a + _BLOCK]))
        for b in range(0, len(texts), _BLOCK):
            products = block @ torch.from_numpy(np.ascontiguousarray(texts[b : b + _BLOCK])).T
            best_text.see(a, products.max(dim=1), b)
            best_image.see(b, products.max(dim=0), a)
        advance(len(block))
    chosen, choosing = best_text.place.numpy(), best_image.place.numpy()
    by_image = np.stack([np.arange(len(images)), chosen], axis=1)
    by_text = np.stack([choosing, np.arange(len(texts))], axis=1)
    pairs, count = np.unique(np.concatenate([by_image, by_text]), axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], count == 2


class _Best:
    """For each of `count` rows the largest product so far and where it was."""

    def __init__(self, count: int) -> None:
        self.value = torch.full((count,), -torch.inf)
        self.place = torch.zeros(count, dtype=torch.int64)

    def see(self, start: int, found: torch.return_types.max, offset: int) -> None:
        part = slice(start, start + len(found.values))
        better = found.values > self.value[part]
        self.value[part] = torch.where(better, found.values, self.value[part])
        self.place[part] = torch.where(better, found.indices + offset, self.place[part])


def _row_means(
    texts: Vectors, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The store rows of some captions, each once, and the mean vector of each row's captions."""
    rows, first, counts = np.unique(texts.rows[places], return_index=True, return_counts=True)
    sums = np.add.reduceat(texts.values[places], first, axis=0, dtype=np.float32)
    return rows, (sums / counts[:, None]).astype(np.float32)
