"""Which items a store holds already, in 20 bytes a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tijepa.data.pairs import Rejected
from tijepa.data.records import Record
from tijepa.data.store.source import Store
from tijepa.data.store.writer import storable
from tijepa.data.validation.check import content_of, text_hash
from tijepa.data.validation.duplicates import Known

_TAKEN = (
    "the store holds another image or other captions under this id: rename it, or prepare all"
    " into a new store"
)


class KnownItems:
    """The ids of a store, two unlike hashes of together 96 bits each, and what they stand for.

    Made for `count` rows, which `passing` then notes. Among 10 million ids a new one is taken for a
    known one with a chance of 10^-15. Image and captions are one hash of 64 bits.
    """

    def __init__(self, count: int) -> None:
        self._hashes = np.empty(count, dtype=np.int64)
        self._sums = np.empty(count, dtype=np.uint32)
        self._contents = np.empty(count, dtype=np.uint64)
        self.skipped = 0

    def passing(self, items: Iterable[Known]) -> Iterator[Known]:
        """The `items` of the store as they are, each noted; known once the last is through."""
        for row, item in enumerate(items):
            self._hashes[row] = hash(item.id)
            self._sums[row] = zlib.crc32(item.id.encode())
            self._contents[row] = _content(item.captions, item.content_hash)
            yield item
        order = np.argsort(self._hashes)
        self._hashes, self._sums = self._hashes[order], self._sums[order]
        self._contents = self._contents[order]

    def without(self, items: Iterator[Record | Rejected]) -> Iterator[Record | Rejected]:
        """The `items` that the store does not hold; those that it does are counted in `skipped`.

        Where it holds another image or other captions under the same id, the item is skipped:
        two folders may use one file name, and nobody is to lose a photo by that.
        """
        for item in items:
            if isinstance(item, Record) and len(contents := self._under(item.id)):
                if _content(*content_of(item)) in contents:
                    self.skipped += 1
                    continue
                item = Rejected(item.id, _TAKEN)
            yield item

    def _under(self, item: str) -> NDArray[np.uint64]:
        """What stands in the store under this id: nothing, or one entry."""
        item = storable(item)
        number = np.int64(hash(item))
        first = self._hashes.searchsorted(number, "left")
        last = self._hashes.searchsorted(number, "right")
        same = self._sums[first:last] == zlib.crc32(item.encode())
        contents: NDArray[np.uint64] = self._contents[first:last][same]
        return contents


def _content(captions: Sequence[str], content_hash: str) -> int:
    return int(text_hash([content_hash, *captions])[:16], 16)


# What stands in a store, as the search for duplicates needs it.


_ROWS_AT_ONCE = 4096
_COLUMNS = ["id", "split", "captions", "content_hash", "look"]


def existing_rows(store: Store) -> Iterator[Known]:
    """Every item of `store` in order, read without its image."""
    scanner = store.dataset.scanner(columns=_COLUMNS, batch_size=_ROWS_AT_ONCE)
    for batch in scanner.to_batches():
        columns = (batch.column(name).to_pylist() for name in _COLUMNS)
        for row in zip(*columns, strict=True):
            yield Known(*row)
