"""A store whose pseudo-pairs are pairs, as a source for a new store."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import ClassVar

import numpy as np

from tijepa.data.pairs import SetAside
from tijepa.data.records import ReaderOptions, Record
from tijepa.search.changed import ChangedStore

__all__ = ["PairedReader"]

_PSEUDO = "pseudo_pair"  # the column that is true where model and not source made the pair


class PairedReader(ChangedStore):
    """The items of a store in order; `partners` gives rows of texts for the rows of pictures.

    Such a picture gets the captions of its texts and, where it lacks them, the further columns of
    the first; the texts' rows go. A text may have several pictures. Every item says in the column
    `pseudo_pair` whether it is one.
    """

    name: ClassVar[str] = "paired"
    layout: ClassVar[str] = "a pair store with pseudo-pairs"

    def __init__(
        self,
        source: str,
        options: ReaderOptions,
        partners: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(source, options)
        self._partners = partners or {}

    def __iter__(self) -> Iterator[Record | SetAside]:
        texts = self._texts()
        for row, record in enumerate(self._store):
            if isinstance(record, SetAside):
                yield record
            elif row not in texts:
                own = [texts[partner] for partner in self._partners.get(row, ())]
                pseudo = bool(own) or bool(record.extra.get(_PSEUDO, False))
                extra = {**(own[0][1] if own else {}), **record.extra, _PSEUDO: pseudo}
                captions = tuple(text for some, _ in own for text in some) or record.captions
                yield dataclasses.replace(record, captions=captions, extra=extra)

    def describe(self) -> str:
        """See `Reader.describe`."""
        count = sum(map(len, self._partners.values()))
        return f"{self._store.describe()} with {count:,} pseudo-pairs"

    def changes(self) -> list[tuple[int, list[int]]]:
        """See `ChangedStore.changes`."""
        return [(row, list(texts)) for row, texts in sorted(self._partners.items())]

    def _texts(self) -> dict[int, tuple[tuple[str, ...], dict[str, object]]]:
        """Captions and further columns of the rows that find a picture."""
        store = self._store.store
        extras = store.info.extras
        rows = np.unique(np.fromiter(chain.from_iterable(self._partners.values()), np.int64))
        table = store.take(rows, ["captions", *(field.name for field in extras.fields)])
        captions = table["captions"].to_pylist()
        others = [one for batch in table.to_batches() for one in extras.rows(batch)]
        return {
            int(row): (tuple(own), other)
            for row, own, other in zip(rows, captions, others, strict=True)
        }
