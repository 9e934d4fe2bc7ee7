"""Rows with equal keys, as groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "Rows", "equal_rows", "numbered", "repeated"]

Rows = NDArray[np.int64]


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
