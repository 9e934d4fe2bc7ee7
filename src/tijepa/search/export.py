"""Embeddings of a store for other programs: as parquet, or as a matrix with a list of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tijepa.data.store.source import Store
from tijepa.errors import ConfigError
from tijepa.io.files import whole, writing
from tijepa.search.vector_store import Side, VectorStore

ENDINGS = (".parquet", ".npy")
_ROWS = 8192

Part = tuple[dict[str, list[Any]], NDArray[np.float32]]  # columns, and embeddings (n, j)


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
    count = sum(len(vector_store.vectors(side).rows) for side in sides)
    length = vector_store.length
    parts = _parts(vector_store, store, sides)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        with whole(out) as temporary:
            _parquet(parts, length, temporary)
    else:
        with whole(out.with_suffix(".jsonl")) as listed, whole(out) as temporary:
            _matrix(parts, (count, length), temporary, listed)
    return count


def _parts(vector_store: VectorStore, store: Store, sides: tuple[Side, ...]) -> Iterator[Part]:
    """The vectors with what belongs to them, some thousand at a time."""
    for side in sides:
        vectors = vector_store.vectors(side)
        texts = side == "texts"
        for start in range(0, len(vectors.rows), _ROWS):
            rows = vectors.rows[start : start + _ROWS]
            numbers = vectors.numbers(np.arange(start, start + len(rows)))
            taken = store.take_each(rows, ["id", "split", "captions"]).to_pylist()
            about = {
                "id": [own["id"] for own in taken],
                "row": rows.tolist(),
                "kind": ["text" if texts else "image"] * len(rows),
                "split": [own["split"] for own in taken],
                "caption": [
                    own["captions"][number] if texts else None
                    for own, number in zip(taken, numbers, strict=True)
                ],
            }
            yield about, np.array(vectors.values[start : start + _ROWS], np.float32)


def _parquet(parts: Iterator[Part], length: int, path: Path) -> None:
    texts = [(name, pa.string()) for name in ("kind", "split", "caption")]
    embedding = ("embedding", pa.list_(pa.float32(), length))
    schema = pa.schema([("id", pa.string()), ("row", pa.int64()), *texts, embedding])
    with pq.ParquetWriter(path, schema) as writer:
        for about, values in parts:
            flat = pa.array(values.reshape(-1), pa.float32())
            column = pa.FixedSizeListArray.from_arrays(flat, length)
            arrays = [pa.array(about[f.name], f.type) for f in schema if f.name in about]
            writer.write_batch(pa.RecordBatch.from_arrays([*arrays, column], schema=schema))


def _matrix(parts: Iterator[Part], shape: tuple[int, int], path: Path, listed: Path) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with open(path, "wb") as matrix, open(listed, "w", encoding="utf-8") as lines:
        np.lib.format.write_array_header_1_0(matrix, header)
        for about, values in parts:
            matrix.write(values.astype("<f4").tobytes())
            for row in zip(*about.values(), strict=True):
                lines.write(json.dumps(dict(zip(about, row, strict=True))) + "\n")
