"""Every image and caption of a store into the shelf, chunk by chunk; what stands there stays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.data.features.cached_features import CachedRows
from tijepa.data.features.table import Features
from tijepa.data.images import centre_square, decode_image
from tijepa.data.store.codec import unpack
from tijepa.data.store.source import Store
from tijepa.errors import DataError, NonFiniteError
from tijepa.inference.embedder import Embedder, Form
from tijepa.io.locks import alone
from tijepa.io.progress import SILENT, Reporter
from tijepa.runs.cached_features import CachedFeatures, cached_features
from tijepa.search.manifest import check_store, fingerprint, index_folder
from tijepa.search.vector_store import Chunk, Side, VectorStore, unwritable

__all__ = [
    "CONTENT",
    "Content",
    "Embedded",
    "Items",
    "Page",
    "digest",
    "embed_rows",
    "embedded_store",
    "read_page",
    "verified",
]

ROWS = 512  # store rows of a chunk, all that an interrupt can lose
_SCANNED = 8192


def verified(shelf: VectorStore, store: Store, *, only_ends: bool = False) -> bool:
    """Whether the rows on the shelf are still those of the store, by ids, images and captions.

    `only_ends` compares the first chunk and the last: a look that takes milliseconds.
    """
    if not shelf.chunks:
        return True
    if shelf.rows > store.dataset.count_rows():
        return False
    if only_ends:
        ends = (shelf.chunks[0], shelf.chunks[-1])
        return all(digest(_rows(store, one.start, one.stop)) == one.digest for one in ends)
    rows = _content(store, shelf.rows)
    return all(
        digest([next(rows) for _ in range(chunk.start, chunk.stop)]) == chunk.digest
        for chunk in shelf.chunks
    )


@dataclass(frozen=True)
class Embedded:
    """A store whose every row stands on the shelf, in one form of the joint embeddings of `model`,
    which is a fingerprint."""

    store: Store
    model: str
    form: Form
    shelf: VectorStore


@contextmanager
def embedded_store(
    embedder: Embedder,
    store: str,
    form: Form | None = None,
    *,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Iterator[Embedded]:
    """Embed what the shelf beside `store` lacks, in the model's default form if none is given.

    No other process changes the shelf within the block; one that wants to waits. Raises `DataError`
    where store or disk fail, `ConfigError` where there is no store, `NonFiniteError` for a broken
    model.
    """
    form = form or embedder.default_form
    model = fingerprint(embedder)
    name = model if form == embedder.default_form else f"{model}-{form}"
    folder = index_folder(check_store(store), name)
    Store(store)  # rather say that there is no store than make a folder for it
    with alone(folder, unwritable, reporter):
        opened = Store(store)  # whoever was waited for may have embedded rows that are new
        shelf = VectorStore(folder, int(embedder.encode_text("a", form=form).shape[1]))
        if not verified(shelf, opened):
            shelf.clear()  # its rows are not those of this store any more
        total = opened.dataset.count_rows()
        if shelf.rows < total:
            threads = (os.cpu_count() or 1) if threads is None else threads
            kept = cached_features(embedder, opened, reporter)
            with reporter.bar("embedding rows", total) as advance:
                advance(shelf.rows)
                embed_rows(
                    embedder, form, opened, shelf, kept=kept, threads=threads, advance=advance
                )
        yield Embedded(opened, model, form, shelf)


def embed_rows(
    embedder: Embedder,
    form: Form,
    store: Store,
    shelf: VectorStore,
    *,
    kept: CachedFeatures | None = None,
    threads: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Embed the rows of `store` that the shelf lacks; `advance` is told of each chunk's rows.

    What is `kept` of them is read. The next chunk is read and decoded by `threads` threads while
    the model works on this one. Raises `DataError` where store or disk fail, `NonFiniteError` for a
    broken model.
    """
    total = store.dataset.count_rows()
    size = embedder.card.image_size
    starts = range(shelf.rows, total, ROWS)
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(max(threads, 1)) as pool:
        read = partial(_next_page, store, kept or {}, size, pool, total)
        coming = ahead.submit(read, starts[0]) if starts else None
        for start in starts:
            assert coming is not None
            page = coming.result()
            if page.stop < total:
                coming = ahead.submit(read, page.stop)
            _put(embedder, form, shelf, start, page)
            advance(page.stop - start)


def _next_page(
    store: Store, kept: CachedFeatures, size: int, pool: ThreadPoolExecutor, total: int, start: int
) -> Page:
    return read_page(store, range(start, min(start + ROWS, total)), kept, size, pool)


def _put(embedder: Embedder, form: Form, shelf: VectorStore, start: int, page: Page) -> None:
    last = shelf.chunks[-1] if shelf.chunks else Chunk(0, 0, "", 0, 0, 0)
    values: dict[Side, NDArray[np.float32]] = {
        "images": _finite(
            page.images.embedded(
                lambda images: embedder.encode_image(images, form=form),
                lambda features: embedder.image_rows(features, form),
            ),
            "image",
        ),
        "texts": _finite(
            page.texts.embedded(
                lambda texts: embedder.encode_text(texts, form=form),
                lambda features: embedder.text_rows(features, form),
            ),
            "text",
        ),
    }
    rows: dict[Side, NDArray[np.int64]] = {
        "images": np.array(page.images.rows, np.int64),
        "texts": np.array(page.texts.rows, np.int64),
    }
    chunk = Chunk(
        start=start,
        stop=page.stop,
        digest=page.digest,
        images=last.images + len(rows["images"]),
        texts=last.texts + len(rows["texts"]),
        unreadable=last.unreadable + page.unreadable,
    )
    shelf.append(chunk, values, rows)


def _finite(rows: torch.Tensor, kind: str) -> NDArray[np.float32]:
    if not bool(torch.isfinite(rows).all()):
        raise NonFiniteError(
            f"the model's {kind} embeddings are not finite: use another checkpoint"
        )
    return rows.float().numpy()


def _rows(store: Store, start: int, stop: int) -> list[Content]:
    table = store.take(np.arange(start, stop), list(CONTENT))
    return list(zip(*(table[name].to_pylist() for name in CONTENT), strict=True))


def _content(store: Store, stop: int) -> Iterator[Content]:
    scanner = store.dataset.scanner(columns=list(CONTENT), batch_size=_SCANNED, limit=stop)
    for batch in scanner.to_batches():
        yield from zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True)


# Rows of a store as a model takes them: images decoded, texts listed, features where they are.
#
# Where a run on frozen encoders has kept their features beside the store, those are read, and
# neither
# is the image decoded nor the encoder run. They are what the run itself was trained and
# calibrated
# on, in the precision of its training.


CONTENT = ("id", "content_hash", "captions")

Content = tuple[str, str, list[str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Items(Generic[T]):
    """Images or texts of consecutive store rows, `rows` being that of each, ascending.

    Those that are `new` are `given`, to be encoded; the others' pooled tokens are `kept`.
    """

    rows: list[int]
    new: list[bool]
    given: list[T]
    kept: list[torch.Tensor]

    def embedded(
        self,
        encode: Callable[[list[T]], torch.Tensor],
        from_features: Callable[[Features], torch.Tensor],
    ) -> torch.Tensor:
        """One row each, in order."""
        if not self.kept:
            return encode(self.given)
        features = from_features(Features(torch.cat(self.kept)))
        if not self.given:
            return features
        values, new = torch.empty(len(self.rows), features.shape[1]), torch.tensor(self.new)
        values[new], values[~new] = encode(self.given), features
        return values


@dataclass(frozen=True)
class Page:
    """Rows of a store up to `stop`, with decoded images (size, size, 3)."""

    stop: int
    digest: str
    images: Items[NDArray[np.uint8]]
    texts: Items[str]
    unreadable: int


def read_page(
    store: Store, span: range, kept: CachedFeatures, size: int, pool: ThreadPoolExecutor
) -> Page:
    """Read the rows `span`; images become squares of `size` pixels, decoded by `pool`.

    Raises `DataError` where the store cannot be read.
    """
    rows = np.arange(span.start, span.stop)
    table = store.take(rows, [*CONTENT, "pair"])
    ids, hashes, captions, pairs = (column.to_pylist() for column in table.columns)
    files = {int(row): unpack(pair)[0] for row, pair in zip(rows, pairs, strict=True)}
    images, unreadable = _images(files, kept.get("image"), size, pool)
    texts = {int(row): own for row, own in zip(rows, captions, strict=True)}
    return Page(
        stop=span.stop,
        digest=digest(list(zip(ids, hashes, captions, strict=True))),
        images=_items(images, kept.get("image")),
        texts=_items(texts, kept.get("text")),
        unreadable=unreadable,
    )


def _images(
    files: Mapping[int, bytes | None],
    kept: CachedRows | None,
    size: int,
    pool: ThreadPoolExecutor,
) -> tuple[dict[int, list[NDArray[np.uint8]]], int]:
    """The image of each row, if it has one that can be read, and how many cannot.

    Where features are kept nothing is decoded.
    """
    held = {row: data for row, data in files.items() if data is not None}
    new = {row: data for row, data in held.items() if kept is None or not kept.covers(row)}
    decoded = dict(zip(new, pool.map(partial(_square, size), new.values()), strict=True))
    unreadable = sum(image is None for image in decoded.values())
    if kept is not None:
        unreadable += sum(kept.unreadable(row) for row in held.keys() - new.keys())
    readable = {row: [image] for row, image in decoded.items() if image is not None}
    return {row: readable.get(row, []) for row in files}, unreadable


def _items(of_row: Mapping[int, list[T]], kept: CachedRows | None) -> Items[T]:
    """The items of some rows, by what is kept of them where something is."""
    found: Items[T] = Items([], [], [], [])
    for row, given in of_row.items():
        if kept is not None and kept.covers(row):
            features = kept.pooled(row)
            found.kept.append(features)
            count, new = len(features), False
        else:
            found.given.extend(given)
            count, new = len(given), True
        found.rows.extend([row] * count)
        found.new.extend([new] * count)
    return found


def _square(size: int, data: bytes) -> NDArray[np.uint8] | None:
    """The largest centred square, as the model takes it; None where the bytes give no image."""
    try:
        pixels = decode_image(data, size)
    except DataError:
        return None
    return centre_square(pixels, size)


def digest(rows: list[Content]) -> str:
    """A hash of what rows hold: ids, images and captions."""
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
