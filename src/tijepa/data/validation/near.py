"""Images that look alike: 64-bit hashes at most 3 bits apart, found without comparing all pairs.

The 64 bits are cut into 6 bands. Two hashes that differ in 3 bits agree in at least 3 whole bands,
so sorting by each of the 20 choices of 3 bands brings every such pair together once; what agrees is
compared in full. Memory and time grow with n and n log n.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

NEAR_DISTANCE = 3  # bits of 64
_WIDTHS = (11, 11, 11, 11, 10, 10)
_WINDOW = 64  # neighbours compared within hashes that agree in 3 bands; bounds the cost
_PLAIN = 8  # bits: with fewer, or fewer unset ones, a hash says too little

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


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
    """Whether a hash is that of a flat or evenly shaded image: these all look alike to it."""
    count = bits_set(hashes)
    return (count < _PLAIN) | (count > 64 - _PLAIN)


def near_components(hashes: Words) -> NDArray[np.int64]:
    """For each hash the index of the first one that it is linked to by steps of at most 3 bits.

    The hashes must be distinct and ascending. Where more than 64 agree in the same 3 bands, each is
    compared with its next 64 only. Takes 24 bytes a hash beside the result.
    """
    parent = np.arange(len(hashes), dtype=np.int64)
    for chosen in combinations(range(len(_WIDTHS)), 3):
        bands = chosen + tuple(band for band in range(len(_WIDTHS)) if band not in chosen)
        below = np.uint64(sum(_WIDTHS[band] for band in bands[3:]))
        turned = _reorder(hashes, bands)
        turned.sort()
        active = np.flatnonzero((turned[1:] ^ turned[:-1]) >> below == 0)
        for step in range(1, _WINDOW + 1):
            active = active[active + step < len(turned)]
            apart = turned[active] ^ turned[active + step]
            agree = apart >> below == 0
            active, apart = active[agree], apart[agree]
            if not active.size:
                break
            close = active[bits_set(apart) <= NEAR_DISTANCE]
            first = _restore(turned[close], bands)
            second = _restore(turned[close + step], bands)
            _join(parent, np.searchsorted(hashes, first), np.searchsorted(hashes, second))
    return _roots(parent, parent)


def _reorder(words: Words, bands: tuple[int, ...]) -> Words:
    """The same bits with the bands in another order, the first of `bands` on top."""
    result = np.zeros_like(words)
    for band in bands:
        width = np.uint64(_WIDTHS[band])
        result <<= width
        part = words >> np.uint64(sum(_WIDTHS[:band]))
        part &= (np.uint64(1) << width) - np.uint64(1)
        result |= part
    return result


def _restore(turned: Words, bands: tuple[int, ...]) -> Words:
    """What `_reorder` was given."""
    result = np.zeros_like(turned)
    rest = turned.copy()
    for band in reversed(bands):
        width = np.uint64(_WIDTHS[band])
        part = rest & ((np.uint64(1) << width) - np.uint64(1))
        result |= part << np.uint64(sum(_WIDTHS[:band]))
        rest >>= width
    return result


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


class Groups:
    """Groups of at least two rows, each in ascending order, by their first row.

    `rows` holds one group after the other, in an order of its own.
    """

    def __init__(self, rows: Rows, sizes: NDArray[np.int64]) -> None:
        starts = np.cumsum(sizes) - sizes
        by_first = np.argsort(rows[starts]) if len(sizes) else starts
        self.rows = rows
        self.sizes = sizes
        self._starts = starts[by_first]
        self._sizes = sizes[by_first]

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Rows]:
        for start, size in zip(self._starts, self._sizes, strict=True):
            yield self.rows[start : start + size]

    def reaching(self, row: int) -> Groups:
        """Only the groups that hold a row from `row` on."""
        if not row or not len(self):
            return self
        starts = np.cumsum(self.sizes) - self.sizes
        kept = np.maximum.reduceat(self.rows, starts) >= row
        return Groups(self.rows[np.repeat(kept, self.sizes)], self.sizes[kept])

    def at(self, places: Rows) -> Groups:
        """The same groups where row i stands for the row places[i]; `places` ascends."""
        return Groups(places[self.rows], self.sizes)


def numbered(*keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """A number for each row, the same for rows that agree in all `keys`."""
    order, new = _sorted(keys)
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.cumsum(new) - 1
    return result


def repeated(key: NDArray[np.generic]) -> Rows:
    """The rows whose key stands more than once, ascending. Takes 17 bytes a row for a while."""
    order = np.argsort(key)
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    found = np.zeros(len(key), dtype=np.bool_)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return np.flatnonzero(found)


def equal_rows(
    among: Rows, key: NDArray[np.int64], differing_in: NDArray[np.int64] | None = None
) -> Groups:
    """Groups of the rows `among` that agree in `key`, which is given for all rows.

    With `differing_in`, only groups that hold at least two values of it.
    """
    values = key[among]
    order, new = _sorted((values,))
    ordered = among[order]
    number = np.cumsum(new) - 1
    sizes = np.bincount(number) if len(number) else np.zeros(0, dtype=np.int64)
    wanted = sizes > 1
    if differing_in is not None and len(number):
        other = differing_in[ordered]
        starts = np.cumsum(sizes) - sizes
        lowest = np.minimum.reduceat(other, starts)
        highest = np.maximum.reduceat(other, starts)
        wanted &= lowest != highest
    return Groups(ordered[wanted[number]], sizes[wanted])


def _sorted(keys: tuple[NDArray[np.generic], ...]) -> tuple[Rows, NDArray[np.bool_]]:
    """Row numbers sorted by the keys, ties by row, and where a new value begins."""
    single = len(keys) == 1
    order = np.argsort(keys[0], kind="stable") if single else np.lexsort(keys[::-1])
    new = np.zeros(len(order), dtype=np.bool_)
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    if len(new):
        new[0] = True
    return order, new
