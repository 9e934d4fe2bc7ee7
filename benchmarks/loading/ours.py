"""Our loader over a Lance data set with the columns of a pair store."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from loading.photos import Photo
from tijepa.data.images import EncodedPicture
from tijepa.data.loader import Loader
from tijepa.data.pairs import Item, PairSource
from tijepa.data.tokenizer import Tokenizer

__all__ = ["LancePairs", "load_ours", "write_lance"]


def write_lance(photos: Sequence[Photo], path: Path) -> None:
    """One row for each photo."""
    table = pa.table(
        {
            "id": pa.array([photo.name for photo in photos]),
            "split": pa.array(["train"] * len(photos)),
            "image": pa.array([photo.jpeg for photo in photos], pa.large_binary()),
            "captions": pa.array([list(photo.captions) for photo in photos]),
        }
    )
    lance.write_dataset(table, str(path))


class LancePairs(PairSource):
    """Rows of a Lance data set, a whole batch by one `take`."""

    def __init__(self, path: Path) -> None:
        self._data = lance.dataset(str(path))
        self._count = self._data.count_rows()

    def __len__(self) -> int:
        return int(self._count)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        rows = self._take(indexes, ["id", "image", "captions"])
        return [
            Item(row["id"], tuple(row["captions"]), EncodedPicture(row["image"])) for row in rows
        ]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [tuple(row["captions"]) for row in self._take(indexes, ["captions"])]

    def _take(self, indexes: Sequence[int], columns: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._data.take(np.asarray(indexes), columns).to_pylist()
        return rows


def load_ours(
    source: PairSource,
    tokenizer: Tokenizer,
    batches: int,
    *,
    batch_size: int,
    threads: int,
    **options: Any,
) -> int:
    """Pairs of `batches` batches, from the beginning of the stream."""
    with Loader(
        source,
        tokenizer,
        batch_size=batch_size,
        image_size=224,
        max_tokens=48,
        seed=0,
        crop_scale=(0.9, 1.0),
        threads=threads,
        **options,
    ) as loader:
        return sum(len(batch) for batch in islice(loader, batches))
