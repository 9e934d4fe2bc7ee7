"""A store as splits; only the column of splits is read, 0.3 bytes a row of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.pairs import PairSplits, SetAside
from tijepa.data.store.source import Rows, Store, StoreSource

__all__ = ["open_store"]

_USUAL = ("train", "validation", "test")
_ROWS_AT_ONCE = 65536


def open_store(
    uri: str,
    version: int | None = None,
    *,
    hold: object = None,
    set_aside: tuple[SetAside, ...] = (),
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
        set_aside=set_aside,
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
