"""Every image and caption of a store into its vector store, chunk by chunk; what is there stays.

Where the features of frozen encoders are cached beside the store, those are read, and neither is
the image decoded nor the encoder run. They are what the run itself was trained and calibrated on,
in the precision of its training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from tijepa.data.features import Features, RowFeatures, StoreFeatures
from tijepa.data.images import centre_square, decode_image
from tijepa.data.store.schema import unpack
from tijepa.data.store.source import Store
from tijepa.errors import ConfigError, DataError, NonFiniteError
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form
from tijepa.inference.feature_cache import FeatureCache
from tijepa.inference.parallel import read_ahead
from tijepa.io.files import alone, whole, writing
from tijepa.io.progress import SILENT, Reporter
from tijepa.search.manifest import check_store, fingerprint, index_folder
from tijepa.search.vector_store import Chunk, Side, VectorStore, unwritable

ROWS = 512  # store rows of a chunk, all that an interrupt can lose
_SCANNED = 8192
_CONTENT = ("id", "content_hash", "captions")

Content = tuple[str, str, list[str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Embedded:
    """A store whose every row is embedded in one form of the joint embeddings of `model`, which is
    a fingerprint."""

    store: Store
    model: str
    form: Form
    vector_store: VectorStore


@contextmanager
def embedded_store(
    embedder: Embedder,
    store: str,
    form: Form | None = None,
    *,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Iterator[Embedded]:
    """Embed what the vector store beside `store` lacks, in the model's default form if none is
    given.

    No other process changes the vector store within the block; one that wants to waits. Raises
    `DataError` where store or disk fail, `ConfigError` where there is no store, `NonFiniteError`
    for a broken model.
    """
    form = form or embedder.default_form
    model = fingerprint(embedder)
    name = model if form == embedder.default_form else f"{model}-{form}"
    folder = index_folder(check_store(store), name)
    Store(store)  # rather say that there is no store than make a folder for it
    with alone(folder, unwritable, reporter):
        opened = Store(store)  # whoever was waited for may have embedded rows that are new
        vector_store = VectorStore(folder, int(embedder.encode_text("a", form=form).shape[1]))
        if not verified(vector_store, opened):
            vector_store.clear()  # its rows are not those of this store any more
        total = opened.dataset.count_rows()
        if vector_store.rows < total:
            cached = FeatureCache.open(embedder, opened, reporter).rows()
            with reporter.bar("embedding rows", total) as advance:
                advance(vector_store.rows)
                _embed(embedder, form, opened, vector_store, cached, threads, advance)
        yield Embedded(opened, model, form, vector_store)


def verified(vector_store: VectorStore, store: Store, *, only_ends: bool = False) -> bool:
    """Whether the embedded rows are still those of the store, by ids, images and captions.

    `only_ends` compares the first chunk and the last: a look that takes milliseconds.
    """
    if not vector_store.chunks:
        return True
    if vector_store.rows > store.dataset.count_rows():
        return False
    if only_ends:
        ends = (vector_store.chunks[0], vector_store.chunks[-1])
        return all(_digest(list(_content(store, c.start, c.stop))) == c.digest for c in ends)
    rows = _content(store, 0, vector_store.rows)
    return all(
        _digest([next(rows) for _ in range(chunk.start, chunk.stop)]) == chunk.digest
        for chunk in vector_store.chunks
    )


def _content(store: Store, start: int, stop: int) -> Iterator[Content]:
    scanner = store.dataset.scanner(
        columns=list(_CONTENT), batch_size=_SCANNED, offset=start, limit=stop - start
    )
    for batch in scanner.to_batches():
        yield from zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True)


def _digest(rows: list[Content]) -> str:
    """A hash of what rows hold: ids, images and captions."""
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def _embed(
    embedder: Embedder,
    form: Form,
    store: Store,
    vector_store: VectorStore,
    cached: StoreFeatures,
    threads: int | None,
    advance: Callable[[int], None],
) -> None:
    """Embed the rows that `vector_store` lacks; `threads` decode the next ones meanwhile."""
    total = store.dataset.count_rows()
    spans = [range(k, min(k + ROWS, total)) for k in range(vector_store.rows, total, ROWS)]
    threads = (os.cpu_count() or 1) if threads is None else threads
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        read = partial(_read, store, cached, embedder.card.image_size, pool)
        for some in read_ahead(read, spans):
            _put(embedder, form, vector_store, some)
            advance(len(some.span))


@dataclass(frozen=True)
class Inputs(Generic[T]):
    """Images or texts of consecutive store rows, `rows` being that of each, ascending.

    Those that are `new` are `given`, to be encoded; the others' pooled tokens are `cached`.
    """

    rows: list[int]
    new: list[bool]
    given: list[T]
    cached: list[torch.Tensor]

    @classmethod
    def of(cls, given: Mapping[int, list[T]], cached: RowFeatures | None) -> Inputs[T]:
        """The inputs of some rows, or what is cached of them."""
        found: Inputs[T] = cls([], [], [], [])
        for row, own in given.items():
            new = cached is None or not cached.covers(row)
            if cached is None or new:
                found.given.extend(own)
                count = len(own)
            else:
                found.cached.append(cached.pooled(row))
                count = len(found.cached[-1])
            found.rows.extend([row] * count)
            found.new.extend([new] * count)
        return found

    def embedded(
        self,
        encode: Callable[[list[T]], torch.Tensor],
        from_features: Callable[[Features], torch.Tensor],
    ) -> NDArray[np.float32]:
        """One row each, in order. Raises `NonFiniteError`."""
        if not self.cached:
            values = encode(self.given)
        else:
            values = from_features(Features(torch.cat(self.cached)))
            if self.given:
                features, new = values, torch.tensor(self.new)
                values = torch.empty(len(self.rows), features.shape[1])
                values[new], values[~new] = encode(self.given), features
        if not bool(torch.isfinite(values).all()):
            raise NonFiniteError("the model's embeddings are not finite: use another checkpoint")
        return values.float().numpy()


@dataclass(frozen=True)
class _Rows:
    """Rows of a store as a model takes them; images are squares (size, size, 3)."""

    span: range
    digest: str
    images: Inputs[NDArray[np.uint8]]
    texts: Inputs[str]
    unreadable: int


def _read(
    store: Store, cached: StoreFeatures, size: int, pool: ThreadPoolExecutor, span: range
) -> _Rows:
    """Read the rows `span`; images that have no features are decoded by `pool`.

    Raises `DataError` where the store cannot be read.
    """
    table = store.take(np.arange(span.start, span.stop), [*_CONTENT, "pair"])
    ids, hashes, captions, pairs = (column.to_pylist() for column in table.columns)
    features = cached.get("image")
    new: dict[int, bytes] = {}
    unreadable = 0
    for row, pair in zip(span, pairs, strict=True):
        file = unpack(pair)[0]
        if file is None:
            continue
        if features is None or not features.covers(row):
            new[row] = file
        else:
            unreadable += features.unreadable(row)
    decoded = dict(zip(new, pool.map(partial(_square, size), new.values()), strict=True))
    images = {row: [i] for row in span if (i := decoded.get(row)) is not None}
    return _Rows(
        span=span,
        digest=_digest(list(zip(ids, hashes, captions, strict=True))),
        images=Inputs.of({row: images.get(row, []) for row in span}, features),
        texts=Inputs.of(dict(zip(span, captions, strict=True)), cached.get("text")),
        unreadable=unreadable + len(decoded) - len(images),
    )


def _square(size: int, data: bytes) -> NDArray[np.uint8] | None:
    """The largest centred square, as the model takes it; None where the bytes give no image."""
    try:
        return centre_square(decode_image(data, size), size)
    except DataError:
        return None


def _put(embedder: Embedder, form: Form, vector_store: VectorStore, some: _Rows) -> None:
    images = some.images.embedded(
        lambda images: embedder.encode_image(images, form=form),
        lambda features: embedder.encode_image(features, form=form),
    )
    texts = some.texts.embedded(
        lambda texts: embedder.encode_text(texts, form=form),
        lambda features: embedder.encode_text(features, form=form),
    )
    last = vector_store.last
    chunk = Chunk(
        start=some.span.start,
        stop=some.span.stop,
        digest=some.digest,
        images=last.images + len(images),
        texts=last.texts + len(texts),
        unreadable=last.unreadable + some.unreadable,
    )
    rows: dict[Side, NDArray[np.int64]] = {
        "images": np.array(some.images.rows, np.int64),
        "texts": np.array(some.texts.rows, np.int64),
    }
    vector_store.append(chunk, {"images": images, "texts": texts}, rows)


# Embeddings of a store for other programs: as parquet, or as a matrix with a list of its rows.


ENDINGS = (".parquet", ".npy")
_WRITTEN = 8192  # rows of a file, made at once

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
        for start in range(0, len(vectors.rows), _WRITTEN):
            rows = vectors.rows[start : start + _WRITTEN]
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
            yield about, np.array(vectors.values[start : start + _WRITTEN], np.float32)


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
