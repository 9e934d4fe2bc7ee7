"""Which items a store holds already, in 20 bytes a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tijepa.data.check import content_of, text_hash
from tijepa.data.pairs import SetAside
from tijepa.data.records import Record
from tijepa.data.store.rows import storable
from tijepa.data.store.source import Store

__all__ = ["KnownItems"]

_ROWS_AT_ONCE = 65536
_TAKEN = (
    "the store holds another picture or other captions under this id: rename it, or prepare all"
    " into a new store"
)


class KnownItems:
    """The ids of a store, two unlike hashes of together 96 bits each, and what they stand for.

    Among 10 million ids a new one is taken for a known one with a chance of 10^-15. Picture and
    captions are one hash of 64 bits.
    """

    def __init__(self, store: Store) -> None:
        count = store.dataset.count_rows()
        hashes = np.empty(count, dtype=np.int64)
        sums = np.empty(count, dtype=np.uint32)
        contents = np.empty(count, dtype=np.uint64)
        start = 0
        columns = ["id", "captions", "content_hash"]
        for batch in store.dataset.scanner(columns=columns, batch_size=_ROWS_AT_ONCE).to_batches():
            ids, captions, content = (batch.column(name).to_pylist() for name in columns)
            part = slice(start, start + len(ids))
            hashes[part] = [hash(item) for item in ids]
            sums[part] = [zlib.crc32(item.encode()) for item in ids]
            contents[part] = [_content(*row) for row in zip(captions, content, strict=True)]
            start += len(ids)
        order = np.argsort(hashes)
        self._hashes, self._sums, self._contents = hashes[order], sums[order], contents[order]
        self.skipped = 0

    def without(self, items: Iterator[Record | SetAside]) -> Iterator[Record | SetAside]:
        """The `items` that the store does not hold; those that it does are counted in `skipped`.

        Where it holds another picture or other captions under the same id, the item is set aside:
        two folders may use one file name, and nobody is to lose a photo by that.
        """
        for item in items:
            if isinstance(item, Record) and len(contents := self._under(item.id)):
                if _content(*content_of(item)) in contents:
                    self.skipped += 1
                    continue
                item = SetAside(item.id, _TAKEN)
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
