"""Every image and caption of a store into the shelf, chunk by chunk; what stands there stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from tijepa.data.store.lock import alone
from tijepa.data.store.progress import watched
from tijepa.data.store.source import Store
from tijepa.embedder import Embedder, Form
from tijepa.errors import NonFiniteError
from tijepa.evaluate.kept_beside import Kept, kept_beside
from tijepa.search.fingerprint import fingerprint
from tijepa.search.place import check_store, index_folder
from tijepa.search.reading import CONTENT, Content, Page, digest, read_page
from tijepa.search.shelf import Chunk, Shelf, Side, unwritable

__all__ = ["Embedded", "embed_rows", "embedded_store", "verified"]

ROWS = 512  # store rows of a chunk, all that an interrupt can lose
_SCANNED = 8192


def verified(shelf: Shelf, store: Store, *, only_ends: bool = False) -> bool:
    """Whether the rows on the shelf are still those of the store, by ids, pictures and captions.

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
    shelf: Shelf


@contextmanager
def embedded_store(
    embedder: Embedder,
    store: str,
    form: Form | None = None,
    *,
    threads: int | None = None,
    console: Console | None = None,
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
    console = console or Console(quiet=True)
    with alone(folder, unwritable, console):
        opened = Store(store)  # whoever was waited for may have embedded rows that are new
        shelf = Shelf(folder, int(embedder.encode_text("a", form=form).shape[1]))
        if not verified(shelf, opened):
            shelf.clear()  # its rows are not those of this store any more
        total = opened.dataset.count_rows()
        if shelf.rows < total:
            threads = (os.cpu_count() or 1) if threads is None else threads
            kept = kept_beside(embedder, opened, console)
            with watched(console, "embedding rows", total) as advance:
                advance(shelf.rows)
                embed_rows(
                    embedder, form, opened, shelf, kept=kept, threads=threads, advance=advance
                )
        yield Embedded(opened, model, form, shelf)


def embed_rows(
    embedder: Embedder,
    form: Form,
    store: Store,
    shelf: Shelf,
    *,
    kept: Kept | None = None,
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
    store: Store, kept: Kept, size: int, pool: ThreadPoolExecutor, total: int, start: int
) -> Page:
    return read_page(store, range(start, min(start + ROWS, total)), kept, size, pool)


def _put(embedder: Embedder, form: Form, shelf: Shelf, start: int, page: Page) -> None:
    last = shelf.chunks[-1] if shelf.chunks else Chunk(0, 0, "", 0, 0, 0)
    values: dict[Side, NDArray[np.float32]] = {
        "images": _finite(
            page.pictures.embedded(
                lambda pictures: embedder.encode_image(pictures, form=form),
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
        "images": np.array(page.pictures.rows, np.int64),
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
