"""Embeddings of a store for other programs: as parquet, or as a matrix with a list of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tijepa.data.store.source import Store
from tijepa.errors import ConfigError
from tijepa.io.files import whole, writing
from tijepa.search.vector_store import Side, Vectors, VectorStore

ENDINGS = (".parquet", ".npy")
_ROWS = 8192


def check_ending(out: Path) -> None:
    """`ConfigError` where the name does not say which format is wanted."""
    if out.suffix not in ENDINGS:
        raise ConfigError(f"`out` {out} ends neither with .parquet nor with .npy: name it so")


def write_embeddings(
    vector_store: VectorStore, store: Store, out: Path, sides: tuple[Side, ...]
) -> int:
    """Write the vectors of `sides`, one row each, and return how many there are.

    Columns are id, row, kind ("image" or "text"), split, caption (of texts) and embedding. With
    .npy, `out` is a float32 matrix and `NAME.jsonl` beside it holds the other columns, line by
    line. Files appear whole or not at all. Raises `CheckpointError` where that is not possible.
    """
    check_ending(out)
    parts = _Parts(vector_store, store, sides)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        with whole(out) as temporary:
            _parquet(parts, temporary)
    else:
        with whole(out.with_suffix(".jsonl")) as listed, whole(out) as temporary:
            _matrix(parts, temporary, listed)
    return parts.count


@dataclass(frozen=True)
class _Parts:
    """The vectors of a store with what belongs to them, some thousand at a time."""

    vector_store: VectorStore
    store: Store
    sides: tuple[Side, ...]

    @property
    def count(self) -> int:
        return sum(len(self.vector_store.vectors(side).rows) for side in self.sides)

    def __iter__(self) -> Iterator[tuple[dict[str, list[Any]], NDArray[np.float32]]]:
        for side in self.sides:
            vectors = self.vector_store.vectors(side)
            for start in range(0, len(vectors.rows), _ROWS):
                part = slice(start, start + _ROWS)
                yield self._about(side, vectors, part), np.array(vectors.values[part])

    def _about(self, side: Side, vectors: Vectors, part: slice) -> dict[str, list[Any]]:
        rows, texts = vectors.rows[part], side == "texts"
        numbers = vectors.numbers(np.arange(part.start, part.start + len(rows)))
        taken = self.store.take_each(rows, ["id", "split", "captions"]).to_pylist()
        return {
            "id": [own["id"] for own in taken],
            "row": rows.tolist(),
            "kind": ["text" if texts else "image"] * len(rows),
            "split": [own["split"] for own in taken],
            "caption": [
                own["captions"][number] if texts else None
                for own, number in zip(taken, numbers, strict=True)
            ],
        }


def _parquet(parts: _Parts, path: Path) -> None:
    length = parts.vector_store.length
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("row", pa.int64()),
            pa.field("kind", pa.string()),
            pa.field("split", pa.string()),
            pa.field("caption", pa.string()),
            pa.field("embedding", pa.list_(pa.float32(), length)),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for about, values in parts:
            flat = pa.array(values.reshape(-1), pa.float32())
            column = pa.FixedSizeListArray.from_arrays(flat, length)
            arrays = [pa.array(about[f.name], f.type) for f in schema if f.name in about]
            writer.write_batch(pa.RecordBatch.from_arrays([*arrays, column], schema=schema))


def _matrix(parts: _Parts, path: Path, listed: Path) -> None:
    header = {
        "descr": "<f4",
        "fortran_order": False,
        "shape": (parts.count, parts.vector_store.length),
    }
    with open(path, "wb") as matrix, open(listed, "w", encoding="utf-8") as lines:
        np.lib.format.write_array_header_1_0(matrix, header)
        for about, values in parts:
            matrix.write(values.astype("<f4").tobytes())
            for row in zip(*about.values(), strict=True):
                lines.write(json.dumps(dict(zip(about, row, strict=True))) + "\n")
