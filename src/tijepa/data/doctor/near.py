"""Pictures that look alike: 64-bit hashes at most 3 bits apart, found without comparing all pairs.

The 64 bits are cut into 6 bands. Two hashes that differ in 3 bits agree in at least 3 whole bands,
so sorting by each of the 20 choices of 3 bands brings every such pair together once; what agrees is
compared in full. Memory and time grow with n and n log n.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR_DISTANCE", "bits_set", "is_plain", "near_components"]

NEAR_DISTANCE = 3  # bits of 64
_WIDTHS = (11, 11, 11, 11, 10, 10)
_WINDOW = 64  # neighbours compared within hashes that agree in 3 bands; bounds the cost
_PLAIN = 8  # bits: with fewer, or fewer unset ones, a hash says too little

Words = NDArray[np.uint64]


def bits_set(words: Words) -> NDArray[np.uint8]:
    """How many bits of each word are 1, by adding neighbours of growing width."""
    m1, m2, m4 = (
        np.uint64(0x5555555555555555),
        np.uint64(0x3333333333333333),
        np.uint64(0x0F0F0F0F0F0F0F0F),
    )
    x = words - ((words >> np.uint64(1)) & m1)
    x = (x & m2) + ((x >> np.uint64(2)) & m2)
    x = (x + (x >> np.uint64(4))) & m4
    with np.errstate(over="ignore"):
        x = x * np.uint64(0x0101010101010101)
    count: NDArray[np.uint8] = (x >> np.uint64(56)).astype(np.uint8)
    return count


def is_plain(hashes: Words) -> NDArray[np.bool_]:
    """Whether a hash is that of a flat or evenly shaded picture: these all look alike to it."""
    count = bits_set(hashes)
    return (count < _PLAIN) | (count > 64 - _PLAIN)


def near_components(hashes: Words) -> NDArray[np.int64]:
    """For each hash the index of the first one that it is linked to by steps of at most 3 bits.

    The hashes must be distinct. Where more than 64 agree in the same 3 bands, each is compared with
    its next 64 only.
    """
    parent = np.arange(len(hashes), dtype=np.int64)
    for mask in _masks():
        keys = hashes & mask
        order = np.argsort(keys, kind="stable")  # the window below must not depend on luck
        keys = keys[order]
        ordered = hashes[order]
        active = np.flatnonzero(keys[1:] == keys[:-1])
        for step in range(1, _WINDOW + 1):
            active = active[active + step < len(keys)]
            active = active[keys[active] == keys[active + step]]
            if not active.size:
                break
            apart = bits_set(ordered[active] ^ ordered[active + step])
            close = active[apart <= NEAR_DISTANCE]
            _join(parent, order[close], order[close + step])
    return _roots(parent, parent)


def _masks() -> list[np.uint64]:
    bands = []
    start = 0
    for width in _WIDTHS:
        bands.append(((1 << width) - 1) << start)
        start += width
    return [np.uint64(a | b | c) for a, b, c in combinations(bands, 3)]


def _join(parent: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
    """Unite the sets of a[i] and b[i] for all i; the root of a set is its smallest member."""
    while a.size:
        first, second = _roots(parent, a), _roots(parent, b)
        apart = first != second
        a, b, first, second = a[apart], b[apart], first[apart], second[apart]
        np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))


def _roots(parent: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    roots: NDArray[np.int64] = parent[members]
    while True:
        above = parent[roots]
        if np.array_equal(above, roots):
            return roots
        roots = above
