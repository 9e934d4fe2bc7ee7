"""What stands in a store, as the search for duplicates needs it."""

from __future__ import annotations

from collections.abc import Iterator

from tijepa.data.doctor.duplicates import Known
from tijepa.data.store.source import Store

__all__ = ["standing"]

_ROWS_AT_ONCE = 4096
_COLUMNS = ["id", "split", "captions", "content_hash", "look"]


def standing(store: Store) -> Iterator[Known]:
    """Every item of `store` in order, read without its picture."""
    scanner = store.dataset.scanner(columns=_COLUMNS, batch_size=_ROWS_AT_ONCE)
    for batch in scanner.to_batches():
        columns = (batch.column(name).to_pylist() for name in _COLUMNS)
        for row in zip(*columns, strict=True):
            yield Known(*row)
