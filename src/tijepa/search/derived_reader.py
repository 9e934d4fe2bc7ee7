"""A store in which something is changed, as a source for a new store: for `filter` and `pair`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import ClassVar

import numpy as np

from tijepa.data.pairs import Rejected
from tijepa.data.readers.own import LanceStoreReader
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.prepare import Prepared, write_store
from tijepa.data.store.schema import is_store, store_exists
from tijepa.errors import ConfigError, DataError
from tijepa.io.progress import Reporter

_PSEUDO = "pseudo_pair"  # the column that is true where model and not source made the pair


class DerivedReader(Reader):
    """The items of a store in order, those changed whose rows `changes` gives; made by a verb."""

    def __init__(
        self,
        source: str,
        options: ReaderOptions,
        changes: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self._store = LanceStoreReader(source, options)
        self._changes = changes or {}

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Never: a source does not say what is to be changed."""
        del source
        return False

    def fingerprint(self) -> str:
        """Of the store and of what is changed."""
        changes = [(row, list(numbers)) for row, numbers in sorted(self._changes.items())]
        words = f"{self._store.fingerprint()} {json.dumps(changes)}"
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    @property
    def _total(self) -> int:
        return sum(map(len, self._changes.values()))


class FilteredReader(DerivedReader):
    """A store without captions: changes are the numbers of those that go, by row.

    An item that loses all its captions goes; one that had none stays.
    """

    name: ClassVar[str] = "filtered"
    layout: ClassVar[str] = "a pair store without the captions that a filter dropped"

    def __iter__(self) -> Iterator[Record | Rejected]:
        for row, record in enumerate(self._store):
            gone = self._changes.get(row)
            if gone is None or isinstance(record, Rejected):
                yield record
                continue
            captions = tuple(c for k, c in enumerate(record.captions) if k not in gone)
            if captions:
                yield replace(record, captions=captions)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._store.describe()} without {self._total:,} captions"


class PseudoPairReader(DerivedReader):
    """A store with pseudo-pairs: changes are the rows of the texts that an image's row gets.

    Such an image gets the captions of its texts and, where it lacks them, the further columns of
    the first; the texts' rows go. A text may have several images. Every item says in the column
    `pseudo_pair` whether it is one.
    """

    name: ClassVar[str] = "pseudo-pairs"
    layout: ClassVar[str] = "a pair store with pseudo-pairs"

    def __iter__(self) -> Iterator[Record | Rejected]:
        texts = self._texts()
        for row, record in enumerate(self._store):
            if isinstance(record, Rejected):
                yield record
            elif row not in texts:
                own = [texts[partner] for partner in self._changes.get(row, ())]
                pseudo = bool(own) or bool(record.extra.get(_PSEUDO, False))
                extra = {**(own[0][1] if own else {}), **record.extra, _PSEUDO: pseudo}
                captions = tuple(text for some, _ in own for text in some) or record.captions
                yield replace(record, captions=captions, extra=extra)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._store.describe()} with {self._total:,} pseudo-pairs"

    def _texts(self) -> dict[int, tuple[tuple[str, ...], dict[str, object]]]:
        """Captions and further columns of the rows that find an image."""
        store = self._store.store
        extras = store.info.extras
        rows = np.unique(np.fromiter(chain.from_iterable(self._changes.values()), np.int64))
        table = store.take(rows, ["captions", *(field.name for field in extras.fields)])
        captions = table["captions"].to_pylist()
        others = [one for batch in table.to_batches() for one in extras.rows(batch)]
        return {
            int(row): (tuple(own), other)
            for row, own, other in zip(rows, captions, others, strict=True)
        }


def check_new_store(uri: str | None) -> None:
    """`ConfigError` where `uri` names no store, `DataError` where there is one."""
    if uri is not None and not is_store(uri):
        raise ConfigError(f"`new_store` {uri} does not end with .lance: name it {uri}.lance")
    if uri is not None and store_exists(uri):
        raise DataError(f"{uri} exists already: name another `new_store`")


def write_new_store(
    kind: type[DerivedReader],
    changes: Mapping[int, Sequence[int]],
    store: str,
    uri: str | None,
    threads: int | None,
    reporter: Reporter,
) -> Prepared | None:
    """Write `store` with its `changes` as a store of its own at `uri`, where that is named."""
    if uri is None:
        return None
    reader = kind(store, ReaderOptions(), changes)
    threads = threads or os.cpu_count() or 1
    with reporter.bar(f"writing {uri}", reader.count()) as advance:
        return write_store(reader, uri, source=store, threads=threads, advance=advance)
