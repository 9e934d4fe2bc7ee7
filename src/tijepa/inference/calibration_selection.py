"""Shrinkage and ridge of the calibrated energy, chosen on pairs that neither it nor the model saw.

Judged by the cross-entropy of finding the own partner among the held-out ones, both ways by the
energies that are searched by, at the temperature that suits them best: recall at 1 of some hundred
pairs jumps about with the shrinkage, this does not, and the order of energies, all that retrieval
sees, has no temperature. So is whether the direct expert takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tijepa.inference.calibration import Calibration, Directions
from tijepa.inference.embeddings import Embedded, Embeddings, SearchEnergies
from tijepa.inference.moments import PairMoments

C = TypeVar("C")


# shrinkage, ridge (None: predictions as they are)
GRID: tuple[tuple[float, float | None], ...] = (
    *((s, None) for s in (0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)),
    *((s, ridge) for ridge in (0.01, 0.03, 0.1, 0.3) for s in (0.005, 0.02, 0.1)),
)
DIRECT_GRID = tuple((s, ridge) for ridge in (0.001, 0.01, 0.1, 0.3) for s in (0.1, 0.35, 0.65))
LOST = 1e-3  # share of the variance of the direct predictions that may be left out
MAX_PAIRS = 512  # held-out pairs that are compared, each with each
HOTTEST, COLDEST = 1e3, 0.1  # temperatures that are tried
_GOLDEN = (math.sqrt(5) - 1) / 2


def select_calibration(
    pairs: Embeddings, held_out: Embeddings, grid: Sequence[tuple[float, float | None]] = GRID
) -> Calibration:
    """The calibration of training `pairs` that suits the aligned `held_out` pairs best.

    `grid` holds shrinkages with their ridges; of equal ones the first is taken. Where the pairs
    have pooled tokens, the direct expert is fitted too, and kept if both together are better.
    """
    some = held_out.images(slice(0, MAX_PAIRS)).texts(slice(0, MAX_PAIRS))
    heads, cost = _best(
        [Calibration(one) for one in _fits(PairMoments.of(pairs), grid)],
        lambda one: one.search_energies(some),
    )
    if pairs.image_pooled is None:
        return heads
    moments = PairMoments.of_pooled(pairs)
    direct = best_direct(moments, DIRECT_GRID, (some.of_images.direct, some.of_texts.direct))
    both = replace(heads, direct=moments.shortened(direct, LOST))
    return both if matching_cross_entropy(both.search_energies(some)) < cost else heads


def best_direct(
    moments: PairMoments,
    grid: Sequence[tuple[float, float | None]],
    held_out: tuple[Embedded, Embedded],
) -> Directions:
    """The direct expert of the `grid` that suits aligned `held_out` images and texts best.

    Those are pooled tokens, each its own prediction; the first 512 of them are compared.
    """
    images, texts = (one.part(slice(0, MAX_PAIRS)) for one in held_out)
    return _best(_fits(moments, grid), lambda one: one.energies(images, texts))[0]


def _fits(moments: PairMoments, grid: Sequence[tuple[float, float | None]]) -> Iterator[Directions]:
    return (moments.calibrated(shrinkage, ridge) for shrinkage, ridge in grid)


def _best(candidates: Iterable[C], energies: Callable[[C], SearchEnergies]) -> tuple[C, float]:
    """The first one of the lowest cost, and that."""
    costs = [
        (matching_cross_entropy(energies(one)), number, one)
        for number, one in enumerate(candidates)
    ]
    cost, _, found = min(costs, key=lambda one: one[:2])
    return found, cost


def matching_cross_entropy(energy: SearchEnergies) -> float:
    """Mean of −log softmax(−E / T) at the own partner, both ways, at the best temperature T.

    Of n aligned pairs, in nats; log n where the energy says nothing. The cost is convex in 1 / T,
    so a golden-section search over log T finds its minimum.
    """
    find_images, find_texts = -energy.images.double(), -energy.texts.double()
    own = (find_images.diagonal().mean() + find_texts.diagonal().mean()) / 2

    def cost(log_inverse: float) -> float:
        scale = math.exp(log_inverse)
        texts = (scale * find_texts).logsumexp(1).mean()
        images = (scale * find_images).logsumexp(0).mean()
        return float((texts + images) / 2 - scale * own)

    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > 0.02:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = cost(right)
    return min(at_left, at_right)
