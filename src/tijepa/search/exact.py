"""The largest inner products, found by computing all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.registry import register

FITS_FROM = 0.1  # probability of match of the best hit, below which nothing fits
_BLOCK = 262_144  # vectors multiplied at once


class Found(NamedTuple):
    """For each query the positions found, best first, and the inner products, or cosines."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float64]


def exact_search(
    values: NDArray[np.floating],
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None = None,
) -> Found:
    """The k largest inner products of each of q queries; fewer where n < k.

    Among the n rows of `values`, or those at the positions `allowed` alone. Reads the rows block by
    block, so they may lie on disk.
    """
    total = len(values) if allowed is None else len(allowed)
    q = torch.from_numpy(queries)
    scores = torch.empty(len(queries), 0)
    places = torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, total, _BLOCK):
        stop = min(start + _BLOCK, total)
        block = values[start:stop] if allowed is None else values[allowed[start:stop]]
        products = q @ torch.from_numpy(np.require(block, np.float32, ["W", "C"])).T
        best = products.topk(min(k, stop - start), dim=1)
        scores = torch.cat([scores, best.values], dim=1)
        places = torch.cat([places, best.indices + start], dim=1)
        kept = scores.topk(min(k, scores.shape[1]), dim=1)
        scores, places = kept.values, places.gather(1, kept.indices)
    found = places.numpy()
    return rerank(values, queries, found if allowed is None else allowed[found], k)


def rerank(
    values: NDArray[np.floating],
    queries: NDArray[np.float32],
    candidates: NDArray[np.int64],
    k: int,
) -> Found:
    """The k best of (q, c) candidate positions by products in float64; -1 marks no candidate."""
    rows = values[candidates.clip(0)].astype(np.float64)
    scores = np.einsum("qcj,qj->qc", rows, queries.astype(np.float64))
    return _best(candidates, np.where(candidates < 0, -np.inf, scores), k)


def _best(places: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> Found:
    """The k highest, equal ones by position: answers do not depend on how they were found."""
    order = np.lexsort((places, -scores), axis=1)[:, :k]
    return Found(np.take_along_axis(places, order, 1), np.take_along_axis(scores, order, 1))


def most_alike(
    values: NDArray[np.floating],
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None = None,
) -> Found:
    """The k rows of largest cosine with each query, best first.

    Among the n rows of `values`, or those at the positions `allowed` alone, all of them compared.
    """
    places = np.arange(len(values)) if allowed is None else allowed
    asked = _unit(queries)
    best = Found(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0)))
    for start in range(0, len(places), _BLOCK):
        some = places[start : start + _BLOCK]
        block = values[start : start + _BLOCK] if allowed is None else values[some]
        cosines = asked @ _unit(block).T
        positions = np.concatenate([best.positions, np.broadcast_to(some, cosines.shape)], axis=1)
        best = _best(positions, np.concatenate([best.scores, cosines], axis=1), k)
    return best


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    full = np.asarray(rows, np.float32)
    unit: NDArray[np.float32] = full / np.maximum(
        np.linalg.norm(full, axis=1, keepdims=True), 1e-12
    )
    return unit


class SearchBackend(Protocol):
    """Finds candidates among vectors; their scores are computed exactly afterwards.

    It is made of n vectors (n, j), which may lie on disk.
    """

    def __init__(self, values: NDArray[np.floating]) -> None: ...

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Positions (q, c) of large inner products for each of q queries, c ≥ k; -1 for none.

        Where there are `allowed` positions, among these alone.
        """
        ...


@register("search_backend", "exact")
class ExactBackend:
    """Every inner product."""

    def __init__(self, values: NDArray[np.floating]) -> None:
        self._values = values

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """The k largest."""
        return exact_search(self._values, queries, k, allowed).positions


# What a search answers with.


@dataclass(frozen=True)
class Hit:
    """One item of the store; hits of a query come highest score first.

    `row` is the item's row in the store, by which `Index.images` gives its bytes. `score` is what
    the search ranks by: by calibrated energy log p(item | query) − log p(item) in nats, else the
    cosine. `energy` is that of the pair, as `Embedder.energy` gives it in the index's form (nearly
    so where rows are compressed); None of images that are alike. `probability` is that of a match
    where every second pair is matched, None where the model has none. `caption` is
    the caption found, where texts are searched; else the item's first, None where it has none.
    `columns` are the store's further values of the item by name, which `Index.described` reads.
    """

    id: str
    row: int
    score: float
    energy: float | None
    probability: float | None
    caption: str | None
    split: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def fits(hits: Sequence[Hit]) -> bool | None:
    """Whether anything found fits; None where nothing tells.

    Whatever is asked for, something scores highest. Nothing fits where even its probability of
    match lies under 10 %, far below the base rate (docs/log.md has how often that is right).
    """
    if not hits or hits[0].probability is None:
        return None
    return hits[0].probability >= FITS_FROM
