"""Judge every pair of a store by its energy, keep the best share, and show what went."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tijepa.data.pairs import Rejected
from tijepa.data.readers.lance_store import LanceStoreReader
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.prepare import Prepared, write_store
from tijepa.data.store.schema import is_store, store_exists
from tijepa.data.store.source import Store
from tijepa.errors import ConfigError, DataError
from tijepa.inference.embedder import Embedder
from tijepa.io.files import writing
from tijepa.io.progress import SILENT, Reporter
from tijepa.search.embed_store import embedded_store
from tijepa.search.energies_report import spread, write_list, write_report
from tijepa.search.index import opened_model
from tijepa.search.manifest import check_store
from tijepa.search.pair_scores import (
    PairScores,
    check_keep,
    keep_best,
    match_probabilities,
    score_pairs,
)
from tijepa.search.where import rows_where

__all__ = [
    "DerivedReader",
    "Filtered",
    "FilteredReader",
    "check_new_store",
    "filter_store",
    "write_new_store",
]


@dataclass(frozen=True)
class Filtered:
    """`facts` are what filter.json holds; `dropped` the numbers of captions that went, by row.

    `written` is the new store of what stays, where one was asked for.
    """

    facts: dict[str, Any]
    dropped: Mapping[int, frozenset[int]]
    written: Prepared | None = None


def filter_store(
    model: Embedder | str | Path,
    store: str,
    out: str | Path,
    *,
    keep: float,
    where: str | None = None,
    new_store: str | None = None,
    checkpoint: str | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Filtered:
    """Judge the pairs of `store`, those that meet `where`, and write the verdict into `out`.

    `kept.jsonl` and `dropped.jsonl` have one line for each pair: id, row, caption and its number in
    the row, energy and, where the model has one, probability of match. `filter.json` counts,
    `filter.html` shows the histogram and the worst and best pairs. The store stays as it is; what
    of it is kept, the share `keep` of lowest energy, is written as `new_store` (NAME.lance) where
    one is named. `model` and `checkpoint` are as for `tijepa.index`.

        filtered = tijepa.filter("runs/photos", "noisy.lance", "filtered", keep=0.8)
        filtered.facts["highest_energy_kept"]

    Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    out = Path(out)
    check_keep(keep)
    check_new_store(new_store)
    embedder = opened_model(model, checkpoint)
    rows = None if where is None else rows_where(Store(check_store(store)), where)
    with embedded_store(embedder, store, threads=threads, reporter=reporter) as embedded:
        scores = score_pairs(embedded.vector_store, embedded.form, rows)
    opened = embedded.store
    kept = keep_best(scores, keep)
    probabilities = match_probabilities(embedder, scores.energies)
    facts: dict[str, Any] = {
        "store": opened.uri,
        "version": opened.version,
        "model": embedded.model,
        "form": embedded.form,
        "where": where,
        "keep": keep,
        "pairs": len(scores),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        **spread(scores.energies, probabilities, kept),
    }
    about = partial(_about, opened, scores, probabilities)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_list(out / "kept.jsonl", about, np.flatnonzero(kept))
    write_list(out / "dropped.jsonl", about, np.flatnonzero(~kept))
    facts = write_report(
        out,
        "filter",
        title=f"Filter: {facts['store']}",
        lead=f"{facts['pairs']:,} pairs{f' where {where}' if where else ''}, judged in store"
        f" version {facts['version']}.",
        tiles={"Pairs": facts["pairs"], "Kept": facts["kept"], "Dropped": facts["dropped"]},
        facts=facts,
        store=opened,
        about=about,
        order=np.argsort(scores.energies, kind="stable"),
    )
    gone = ~kept
    dropped = _by_row(scores.rows[gone], scores.captions[gone])
    written = None
    if new_store is not None:
        reader = FilteredReader(store, ReaderOptions(), dropped)
        written = write_new_store(reader, store, new_store, threads, reporter)
    return Filtered(facts, dropped, written)


def _about(
    store: Store,
    scores: PairScores,
    probabilities: NDArray[np.float64] | None,
    some: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """What the lists say of some pairs."""
    taken = store.take_each(scores.rows[some], ["id", "captions"]).to_pylist()
    return [
        {
            "id": own["id"],
            "row": int(scores.rows[pair]),
            "number": int(scores.captions[pair]),
            "caption": own["captions"][int(scores.captions[pair])],
            "energy": float(scores.energies[pair]),
            "probability": None if probabilities is None else float(probabilities[pair]),
        }
        for pair, own in zip(some, taken, strict=True)
    ]


def _by_row(rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
        found.setdefault(row, set()).add(number)
    return {row: frozenset(some) for row, some in found.items()}


# A store in which something is changed, as a source for a new store.


class DerivedReader(Reader):
    """The items of a store in order, some of them changed; made by a verb alone."""

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._store = LanceStoreReader(source, options)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Never: a source does not say what is to be changed."""
        del source
        return False

    @abstractmethod
    def changes(self) -> list[tuple[int, list[int]]]:
        """What is changed, by row, in one order."""

    def fingerprint(self) -> str:
        """Of the store and of what is changed."""
        words = f"{self._store.fingerprint()} {json.dumps(self.changes())}"
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def count(self) -> int | None:
        """Rows of the store that is read, some of which may go."""
        return self._store.count()


def check_new_store(uri: str | None) -> None:
    """`ConfigError` where `uri` names no store, `DataError` where there is one."""
    if uri is not None and not is_store(uri):
        raise ConfigError(f"`new_store` {uri} does not end with .lance: name it {uri}.lance")
    if uri is not None and store_exists(uri):
        raise DataError(f"{uri} exists already: name another `new_store`")


def write_new_store(
    reader: DerivedReader, store: str, uri: str, threads: int | None, reporter: Reporter
) -> Prepared:
    """Write what `reader` makes of `store` as a store of its own at `uri`."""
    threads = threads or os.cpu_count() or 1
    with reporter.bar(f"writing {uri}", reader.count()) as advance:
        return write_store(reader, uri, source=store, threads=threads, advance=advance)


# A store without the captions that a filter dropped, as a source for a new store.


class FilteredReader(DerivedReader):
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

    def __iter__(self) -> Iterator[Record | Rejected]:
        for row, record in enumerate(self._store):
            gone = self._dropped.get(row)
            if gone is None or isinstance(record, Rejected):
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
