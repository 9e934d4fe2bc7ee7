"""Pseudo-pairs: which picture without caption and which text without picture choose each other.

Shape letters: i pictures, t texts, j numbers of a joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.embedder import Form
from tijepa.errors import DataError
from tijepa.search.shelf import Shelf, Vectors

__all__ = ["Found", "Partners", "find_partners", "match_in_rounds", "mutual_nearest"]

_BLOCK = 8192  # pictures and texts multiplied at once: 256 MiB of products


@dataclass(frozen=True)
class Partners:
    """n pseudo-pairs: the store rows of picture and text, and the energy of each, lowest first."""

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    energies: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.energies)

    def best(self, share: float) -> Partners:
        """The share of lowest energy, rounded, at least one."""
        count = max(1, round(share * len(self)))
        return Partners(self.images[:count], self.texts[:count], self.energies[:count])


@dataclass(frozen=True)
class Found:
    """How many `images` and `texts` had no partner, and which were matched."""

    images: int
    texts: int
    matches: Partners


def find_partners(
    shelf: Shelf,
    form: Form,
    rows: NDArray[np.int64],
    *,
    rounds: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Found:
    """Match pictures and texts of the store `rows` that lack a partner, by `match_in_rounds`.

    The energy of a picture with a row of several captions is the mean over them. `advance` is told
    how many pictures were compared in the first round. Raises `DataError` where either kind is
    missing.
    """
    images, texts = shelf.vectors("images"), shelf.vectors("texts")
    lone_images = _alone(images, texts, rows)
    lone_texts, means = _row_means(texts, _alone(texts, images, rows))
    if not len(lone_images) or not len(lone_texts):
        raise DataError(
            f"{len(lone_images):,} pictures without caption and {len(lone_texts):,} texts without"
            " picture: pseudo-pairs need some of both"
        )
    values = images.values[lone_images]
    at_image, at_text = match_in_rounds(values, means, rounds, advance)
    products = (values[at_image].astype(np.float64) * means[at_text]).sum(axis=1)
    energies = (1.0 if form == "cosine" else 0.0) - products
    order = np.argsort(energies, kind="stable")
    matches = Partners(
        images.rows[lone_images[at_image[order]]], lone_texts[at_text[order]], energies[order]
    )
    return Found(len(lone_images), len(lone_texts), matches)


def match_in_rounds(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    rounds: int,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of those who choose each other; then of the rest who choose among the rest; ...

    With enough rounds, at most as many as the smaller side has rows, all of it is matched, and no
    picture and text would both have a larger product with each other than with who they got: the
    stable matching of Gale and Shapley, the only one as both sides go by the same products.
    """
    left, right = np.arange(len(images)), np.arange(len(texts))
    found = []
    for number in range(rounds):
        a, b = mutual_nearest(
            images[left], texts[right], advance if number == 0 else lambda count: None
        )
        found.append((left[a], right[b]))
        left, right = np.delete(left, a), np.delete(right, b)
        if not len(left) or not len(right):
            break
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def mutual_nearest(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in (i, j) and (t, j) of rows whose inner product is the largest of both.

    All products are computed, block by block; of equal ones the first counts. No row appears twice.
    """
    best_text, best_image = _Best(len(images)), _Best(len(texts))
    for a in range(0, len(images), _BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(images[a : a + _BLOCK]))
        for b in range(0, len(texts), _BLOCK):
            products = block @ torch.from_numpy(np.ascontiguousarray(texts[b : b + _BLOCK])).T
            best_text.see(a, products.max(dim=1), b)
            best_image.see(b, products.max(dim=0), a)
        advance(len(block))
    chosen = best_text.place.numpy()
    mutual = best_image.place.numpy()[chosen] == np.arange(len(images))
    return np.flatnonzero(mutual), chosen[mutual]


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


def _alone(own: Vectors, other: Vectors, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of vectors whose store row is one of `rows` and has none of the other modality."""
    lone = np.isin(own.rows, rows) & ~np.isin(own.rows, other.rows)
    return np.flatnonzero(lone)


def _row_means(
    texts: Vectors, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The store rows of some captions, each once, and the mean vector of each row's captions."""
    rows, first, counts = np.unique(texts.rows[places], return_index=True, return_counts=True)
    if not len(rows):
        return rows, np.empty((0, texts.values.shape[1]), np.float32)
    sums = np.add.reduceat(texts.values[places], first, axis=0)
    return rows, (sums / counts[:, None]).astype(np.float32)
