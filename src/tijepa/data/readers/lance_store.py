"""A pair store as a source: to examine it, or to make another store of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.schema import is_store, unpack
from tijepa.errors import ConfigError
from tijepa.registry import register

_ROWS_AT_ONCE = 256


@register("reader", "lance")
class LanceStoreReader(Reader):
    """Every row of the latest version of a store, in order."""

    name: ClassVar[str] = "lance"
    priority: ClassVar[int] = 30
    addresses: ClassVar[bool] = True
    layout: ClassVar[str] = "a pair store (*.lance)"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        from tijepa.data.store.source import Store

        if options != ReaderOptions():
            raise ConfigError(f"{source} is a store, whose columns are known: name no columns")
        self.store = Store(source)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its name."""
        return is_store(source)

    def __iter__(self) -> Iterator[Record | Rejected]:
        extras = self.store.info.extras
        scanner = self.store.dataset.scanner(
            columns=["id", "reference", "pair", "split", *(field.name for field in extras.fields)],
            batch_size=_ROWS_AT_ONCE,
            batch_readahead=2,
        )
        for batch in scanner.to_batches():
            columns = (batch.column(i).to_pylist() for i in range(4))
            for item, reference, pair, split, extra in zip(
                *columns, extras.rows(batch), strict=True
            ):
                yield Record(item, reference, *unpack(pair), split, extra)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self.store.uri} version {self.store.version}"

    def fingerprint(self) -> str:
        """Of place and version, which never change their content."""
        return hashlib.blake2b(self.describe().encode(), digest_size=16).hexdigest()

    def count(self) -> int | None:
        """Number of rows."""
        return int(self.store.dataset.count_rows())
