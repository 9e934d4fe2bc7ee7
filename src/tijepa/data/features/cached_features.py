"""Features that a run kept of a store's items, found by the rows of the store.

`STORE.features/vVERSION/MODALITY-KEY/SPLIT` holds them (`feature_table.py`); for a store on object
storage they lie in the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features.table import COMPLETE, FeatureTable, SplitFeatures, open_table
from tijepa.data.store.cache import cache_folder
from tijepa.data.store.schema import is_remote
from tijepa.data.store.source import Store, StoreSource, open_store

__all__ = [
    "CachedRows",
    "Modality",
    "cached_split_features",
    "features_folder",
    "made_of",
    "split_folder",
]

Modality = Literal["image", "text"]


def features_folder(store: Store) -> Path:
    """The folder of the features of a store at its version."""
    if is_remote(store.uri):
        name = hashlib.blake2b(store.uri.encode(), digest_size=6).hexdigest()
        base = cache_folder().parent / "features" / name
    else:
        base = Path(store.uri.rstrip("/")).with_suffix(".features")
    return base / f"v{store.version}"


def split_folder(store: Store, modality: str, key: str, split: str) -> Path:
    """The folder of the features of one modality of one split."""
    return features_folder(store) / f"{modality}-{key}" / split


def made_of(key: str, source: StoreSource) -> dict[str, Any]:
    """What features of a split have to be made of to be right."""
    return {"key": key, "store": source.store.written(), "items": len(source)}


def cached_split_features(
    source: StoreSource, split: str, keys: Mapping[Modality, Sequence[str]]
) -> SplitFeatures:
    """What lies beside the store of one split, for each modality under the first key that has it.

    Raises `DataError` where it is damaged, or made of another store in the same place.
    """
    tables: dict[str, FeatureTable] = {}
    for modality, own in keys.items():
        for key in own:
            table = _complete(source, modality, key, split)
            if table is not None:
                tables[modality] = table
                break
    return SplitFeatures(**tables)


def _complete(source: StoreSource, modality: str, key: str, split: str) -> FeatureTable | None:
    """The features of a split, if all of them are there."""
    folder = split_folder(source.store, modality, key, split)
    return open_table(folder, made_of(key, source)) if (folder / COMPLETE).exists() else None


class CachedRows:
    """The features of one modality that are there, by row of the store."""

    def __init__(self, tables: Sequence[tuple[FeatureTable, StoreSource]], rows: int) -> None:
        self._tables = [table for table, _ in tables]
        self._table = np.full(rows, -1, np.int16)
        self._item = np.zeros(rows, np.int64)
        for number, (_, source) in enumerate(tables):
            self._table[source.rows] = number
            self._item[source.rows] = np.arange(len(source))

    @classmethod
    def find(
        cls, store: Store, keys: Mapping[Modality, Sequence[str]]
    ) -> dict[Modality, CachedRows]:
        """What lies beside `store`, for each modality under the first of its keys that has a split.

        Only complete splits count. Raises `DataError` where one is damaged, or made of another
        store in the same place.
        """
        splits = open_store(store.uri, store.version).splits
        found = {}
        for modality, own in keys.items():
            for key in own:
                tables = []
                for name, source in splits.items():
                    assert isinstance(source, StoreSource)
                    table = _complete(source, modality, key, name)
                    if table is not None:
                        tables.append((table, source))
                if tables:
                    found[modality] = cls(tables, store.dataset.count_rows())
                    break
        return found

    def __len__(self) -> int:
        """Number of rows whose features are there."""
        return int((self._table >= 0).sum())

    def covers(self, row: int) -> bool:
        """Whether the features of this row are there."""
        return bool(self._table[row] >= 0)

    def unreadable(self, row: int) -> bool:
        """Whether the row has an image that could not be read."""
        return int(self._item[row]) in self._of(row).broken

    def pooled(self, row: int) -> Float[Tensor, "c p"]:
        """The pooled tokens of a row's captions, or of its image."""
        return self._of(row).pooled(int(self._item[row]))

    def _of(self, row: int) -> FeatureTable:
        return self._tables[int(self._table[row])]
