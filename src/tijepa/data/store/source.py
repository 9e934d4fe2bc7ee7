"""The items of one split of a store, read by row numbers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.images import EncodedImage
from tijepa.data.pairs import Item, PairSource, PairSplits, Rejected
from tijepa.data.store.schema import (
    REST,
    StoreInfo,
    is_remote,
    local_path,
    open_dataset,
    storage_problem,
    unpack,
)
from tijepa.errors import DataError

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

Rows = NDArray[np.uint32] | NDArray[np.uint64]
_USUAL = ("train", "validation", "test")
_ROWS_AT_ONCE = 65536


class Store:
    """One version of a store. Sent to a spawned process it is opened there at the same version.

    `hold` is kept as long as the store is, e.g. to keep a cache entry from being removed.
    """

    def __init__(self, uri: str, version: int | None = None, hold: object = None) -> None:
        dataset = open_dataset(uri, version)
        self.uri = uri if is_remote(uri) else str(local_path(uri).absolute())
        self.version = int(dataset.version)
        self.info = StoreInfo.of(dataset.schema, uri)
        self._hold = hold
        self._lock = threading.Lock()
        self._dataset: lance.LanceDataset | None = dataset
        self._process = os.getpid()

    @property
    def dataset(self) -> lance.LanceDataset:
        """The open dataset."""
        assert self._process == os.getpid(), "Lance hangs in forked processes: spawn them"
        with self._lock:
            if self._dataset is None:
                self._dataset = open_dataset(self.uri, self.version)
            return self._dataset

    def written(self) -> str:
        """When this version was written; another store in the same place has another time."""
        times = {int(v["version"]): v["timestamp"] for v in self.dataset.versions()}
        return f"version {self.version} of {times[self.version]}"

    def take(self, rows: NDArray[Any], columns: list[str]) -> pa.Table:
        """Some columns of the rows with these numbers, in that order."""
        try:
            return self.dataset.take(rows, columns=columns)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.uri} cannot be read: {storage_problem(error)}; restore it or prepare it "
                "anew"
            ) from None

    def take_each(self, rows: NDArray[np.int64], columns: list[str]) -> pa.Table:
        """Like `take` for rows in any order, some of them perhaps several times."""
        unique, back = np.unique(rows, return_inverse=True)
        return self.take(unique, columns).take(back)

    def images(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """The image files of rows in any order, None where there is none."""
        return [unpack(pair)[0] for pair in self.take_each(rows, ["pair"])["pair"].to_pylist()]

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "version": self.version, "info": self.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._hold = None
        self._lock = threading.Lock()
        self._dataset = None
        self._process = os.getpid()


@dataclass(frozen=True)
class Facts:
    """What a store knows of an item without its image; `content_hash` as in `data.check`."""

    id: str
    content_hash: str
    captions: tuple[str, ...]
    has_image: bool


class StoreSource(PairSource):
    """Items of one split. Memory is 4 bytes an item (8 in stores of over 4 billion rows)."""

    def __init__(self, store: Store, rows: Rows) -> None:
        self.store = store
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Rows:
        """The row of the store of each item, ascending."""
        return self._rows

    def read(self, indexes: Sequence[int]) -> list[Item]:
        """The items at `indexes`, by one access to the store."""
        pairs = map(unpack, self._take(indexes, ["pair"])["pair"].to_pylist())
        return [
            Item(captions, None if image is None else EncodedImage(image))
            for image, captions in pairs
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        """The captions of the items at `indexes`."""
        return [tuple(texts) for texts in self._take(indexes, ["captions"])["captions"].to_pylist()]

    def facts(self, indexes: Sequence[int]) -> list[Facts]:
        """Ids, hashes and captions of the items at `indexes`, without touching their images."""
        names = ["id", "content_hash", "captions", "width"]
        columns = (self._take(indexes, names)[name].to_pylist() for name in names)
        return [
            Facts(item, digest, tuple(captions), width is not None)
            for item, digest, captions, width in zip(*columns, strict=True)
        ]

    def item_id(self, index: int) -> str:
        """The id that the reader gave."""
        return str(self._take([index], ["id"])["id"][0].as_py())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the source's extra columns; rows may hold rare further ones."""
        return tuple(column.name for column in self.store.info.extras.columns)

    def extra(self, name: str, indexes: Sequence[int]) -> list[Any]:
        """Values of the extra column `name`, None where an item has none."""
        column = self.store.info.extras.named(name)
        table = self._take(indexes, [REST, *([column.field] if column else [])])
        values: list[Any] = table[column.field].to_pylist() if column else [None] * len(indexes)
        if column and column.kind == "json":
            values = [None if value is None else json.loads(value) for value in values]
        return [
            value if rest is None else json.loads(rest).get(name, value)
            for value, rest in zip(values, table[REST].to_pylist(), strict=True)
        ]

    def _take(self, indexes: Sequence[int], columns: list[str]) -> pa.Table:
        return self.store.take(self._rows[np.asarray(indexes, dtype=np.int64)], columns)


def open_store(
    uri: str,
    version: int | None = None,
    *,
    hold: object = None,
    rejected: tuple[Rejected, ...] = (),
    description: str | None = None,
    state: str | None = None,
) -> PairSplits:
    """Open the splits of the store at `uri`: train, validation, test first, others by appearance.

    Takes the latest version unless one is given. Raises `DataError` where it cannot be opened.
    """
    store = Store(uri, version, hold)
    rows = _rows_by_split(store)
    order = dict.fromkeys(name for name in (*_USUAL, *rows) if name in rows)
    return PairSplits(
        splits={name: StoreSource(store, rows[name]) for name in order},
        rejected=rejected,
        description=description or f"{store.uri} version {store.version}",
        uri=store.uri,
        version=store.version,
        state=state,
    )


def _rows_by_split(store: Store) -> dict[str, Rows]:
    count = store.dataset.count_rows()
    dtype = np.uint32 if count < 2**32 else np.uint64
    parts: dict[str, list[NDArray[Any]]] = {}
    start = 0
    for batch in store.dataset.scanner(columns=["split"], batch_size=_ROWS_AT_ONCE).to_batches():
        encoded = batch.column(0).dictionary_encode()
        codes = encoded.indices.to_numpy()
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            parts.setdefault(name, []).append((np.flatnonzero(codes == code) + start).astype(dtype))
        start += len(batch)
    return {name: np.concatenate(rows) for name, rows in parts.items()}
