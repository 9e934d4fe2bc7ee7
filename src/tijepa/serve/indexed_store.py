"""The store that is served: search in its index, its items, their images as a page shows them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tijepa.search.columns import Column, with_values
from tijepa.serve.images import shown

if TYPE_CHECKING:
    from tijepa.inference.embeddings import Form
    from tijepa.search import Hit, Index

Among = Literal["images", "texts", "alike"]
CACHE_BYTES = 64 * 2**20  # of encoded images, the most recently shown
CAPTIONS = 5  # of one item that may each stand among the nearest texts
EXAMPLES = 12
LOOKED_AT = 64  # rows among which examples are sought


@dataclass(frozen=True)
class Item:
    """One row of the store."""

    row: int
    id: str
    captions: tuple[str, ...]
    split: str
    width: int | None
    height: int | None


class IndexedStore:
    """An index and its store. Every method may be called from several threads.

    `identity` says which rows these are: a digest of the store's place, version and time of
    writing.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        words = f"{index.store.uri} {index.store.written()}"
        self.identity = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
        self._shown: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Rows that can be found."""
        return len(self._index)

    @property
    def form(self) -> Form:
        """The form of the rows that `search` takes."""
        return self._index.form

    @property
    def name(self) -> str:
        """The store's own name, without the folders that it lies in."""
        return PurePosixPath(self._index.store.uri.rstrip("/")).name

    def search(
        self, query: Float[Tensor, "1 j"], among: Among, k: int, where: str | None
    ) -> list[Hit]:
        """At most k items, each once, highest score first.

        The texts of an item are several: among them an item stands by the nearest. An image among
        images finds those that are like it. Raises `ConfigError` for a condition that is none.
        """
        if among == "alike":
            hits = self._index.search_alike(query, k, where=where)[0]
            return self._index.described(hits)
        wanted = k if among == "images" else k * CAPTIONS
        nearest: dict[int, Hit] = {}
        for hit in self._index.search(query, wanted, among=among, where=where)[0]:
            nearest.setdefault(hit.row, hit)
        return self._index.described(list(nearest.values())[:k])

    def item(self, row: int) -> Item | None:
        """The item in this row; None where the store has no such row."""
        return self._items([row])[0] if 0 <= row < len(self) else None

    def image(self, row: int, side: int) -> bytes | None:
        """The image as JPEG, at most `side` pixels a side; None where there is none.

        Raises `ImageError` where it is damaged.
        """
        with self._lock:
            if (row, side) in self._shown:
                self._shown.move_to_end((row, side))
                return self._shown[row, side]
        data = self.file(row)
        if data is None:
            return None
        made = shown(data, side)
        with self._lock:
            if (row, side) not in self._shown:
                self._shown[row, side] = made
                self._held += len(made)
            while self._held > CACHE_BYTES and len(self._shown) > 1:
                self._held -= len(self._shown.popitem(last=False)[1])
        return made

    def file(self, row: int) -> bytes | None:
        """The image as it is stored; None where there is none."""
        if not 0 <= row < len(self):
            return None
        return self._index.images([row])[0]

    @cached_property
    def examples(self) -> list[Item]:
        """Some items with image and caption, spread over the store; read once."""
        rows = np.linspace(0, len(self) - 1, min(LOOKED_AT, len(self))).astype(int)
        whole = [i for i in self._items(np.unique(rows)) if i.captions and i.width is not None]
        return whole[:: max(1, len(whole) // EXAMPLES)][:EXAMPLES]

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of the store, with their values where these are few; read once."""
        return with_values(self._index.store)

    def _items(self, rows: Any) -> list[Item]:
        columns = ["id", "captions", "split", "width", "height"]
        table = self._index.store.take(np.asarray(rows, np.int64), columns).to_pylist()
        return [
            Item(int(row), own["id"], tuple(own["captions"]), own["split"], own["width"],
                 own["height"])
            for row, own in zip(rows, table, strict=True)
        ]  # fmt: skip
