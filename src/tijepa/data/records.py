"""What every reader gives and `prepare` takes: one record for each item of a source.

A reader turns one layout that people keep pairs in into records, in a fixed order and one at a
time, so that a source larger than memory can be read. It does not judge pictures or captions:
`tijepa.data.check` does that for all readers alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tijepa.data.pairs import SetAside

__all__ = ["Reader", "ReaderOptions", "Record"]


@dataclass(frozen=True)
class Record:
    """One item as its source holds it, before any check.

    `id` is stable: reading the source again gives the same one. `reference` says where the item
    stands (file and line, shard and key). `image` are the bytes of the picture file, None where the
    source names none. `captions` are what the source holds as captions, whatever their type.
    `extra` are all further columns, values that JSON can hold.
    """

    id: str
    reference: str
    image: bytes | None
    captions: tuple[Any, ...]
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReaderOptions:
    """What a user may say about a source; None where the reader shall find out by itself."""

    image_column: str | None = None
    caption_column: str | None = None
    split_column: str | None = None


class Reader(ABC):
    """One layout. Raises `DataError` when opened if the source as a whole cannot be used."""

    name: ClassVar[str]  # as given to --reader
    layout: ClassVar[str]  # one line for people: what the reader takes
    follows: ClassVar[frozenset[str]] = frozenset(  # fields of ReaderOptions that have an effect
        ("image_column", "caption_column", "split_column")
    )

    @abstractmethod
    def __init__(self, source: str, options: ReaderOptions) -> None: ...

    @classmethod
    @abstractmethod
    def recognises(cls, source: str) -> bool:
        """Whether `source` (a path, pattern or name) is of this layout; cheap, never raises."""

    @abstractmethod
    def __iter__(self) -> Iterator[Record | SetAside]:
        """Records in a fixed order; what cannot even become a record as `SetAside`."""

    def first(self, most: int) -> Iterator[Record | SetAside]:
        """At most `most` records of each split, in the order of all; those without split are one.

        What was set aside belongs to the record before it.
        """
        taken: Counter[str | None] = Counter()
        wanted = True
        for item in self:
            if isinstance(item, Record):
                wanted = taken[item.split] < most
                taken[item.split] += wanted
            if wanted:
                yield item

    @abstractmethod
    def describe(self) -> str:
        """One line: which file, which columns or keys were taken for image, caption and split."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest that changes when the source changes; cheap (names, sizes, times)."""

    def count(self) -> int | None:
        """Number of records if it is known without reading them, for the progress bar."""
        return None
