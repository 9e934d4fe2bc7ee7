"""A store without the captions that a filter dropped, as a source for a new store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.records import ReaderOptions, Record
from tijepa.search.changed import ChangedStore

__all__ = ["KeptReader"]


class KeptReader(ChangedStore):
    """The items of a store in order, less the captions whose numbers `dropped` gives by row.

    An item that loses all its captions goes; one that had none stays.
    """

    name: ClassVar[str] = "kept"
    layout: ClassVar[str] = "what a filter kept of a pair store"

    def __init__(
        self,
        source: str,
        options: ReaderOptions,
        dropped: Mapping[int, frozenset[int]] | None = None,
    ) -> None:
        super().__init__(source, options)
        self._dropped = dropped or {}

    def __iter__(self) -> Iterator[Record | SetAside]:
        for row, record in enumerate(self._store):
            gone = self._dropped.get(row)
            if gone is None or isinstance(record, SetAside):
                yield record
                continue
            captions = tuple(c for k, c in enumerate(record.captions) if k not in gone)
            if captions:
                yield dataclasses.replace(record, captions=captions)

    def describe(self) -> str:
        """See `Reader.describe`."""
        count = sum(map(len, self._dropped.values()))
        return f"{self._store.describe()} without {count:,} captions"

    def changes(self) -> list[tuple[int, list[int]]]:
        """See `ChangedStore.changes`."""
        return [(row, sorted(numbers)) for row, numbers in sorted(self._dropped.items())]
