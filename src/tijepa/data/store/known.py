"""Which ids a store holds already, in 12 bytes a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from tijepa.data.pairs import SetAside
from tijepa.data.records import Record
from tijepa.data.store.rows import storable
from tijepa.data.store.source import Store

__all__ = ["KnownIds"]

_ROWS_AT_ONCE = 65536


class KnownIds:
    """The ids of a store as pairs of two unlike hashes of together 96 bits.

    Among 10 million ids a new one is taken for a known one with a chance of 10^-15.
    """

    def __init__(self, store: Store) -> None:
        count = store.dataset.count_rows()
        hashes = np.empty(count, dtype=np.int64)
        sums = np.empty(count, dtype=np.uint32)
        start = 0
        for batch in store.dataset.scanner(columns=["id"], batch_size=_ROWS_AT_ONCE).to_batches():
            ids = batch.column(0).to_pylist()
            part = slice(start, start + len(ids))
            hashes[part] = [hash(item) for item in ids]
            sums[part] = [zlib.crc32(item.encode()) for item in ids]
            start += len(ids)
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        self._sums = sums[order]
        self.skipped = 0

    def __contains__(self, item: str) -> bool:
        item = storable(item)
        number = np.int64(hash(item))
        first = self._hashes.searchsorted(number, "left")
        last = self._hashes.searchsorted(number, "right")
        return bool((self._sums[first:last] == zlib.crc32(item.encode())).any())

    def without(self, items: Iterator[Record | SetAside]) -> Iterator[Record | SetAside]:
        """The `items` that the store does not hold; those that it does are counted in `skipped`."""
        for item in items:
            if isinstance(item, Record) and item.id in self:
                self.skipped += 1
            else:
                yield item
