"""The index of a store: search by energy among its images and captions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from tijepa.data.store.progress import watched
from tijepa.data.store.source import Store
from tijepa.embedder import Embedder, Form, load
from tijepa.errors import ConfigError, DataError
from tijepa.search.embedding import embed_store, verified
from tijepa.search.exact import Found, exact_search
from tijepa.search.fingerprint import fingerprint
from tijepa.search.hits import Hit
from tijepa.search.place import IndexCard, check_store, index_folder, read_card, write_card
from tijepa.search.shelf import Shelf, Side
from tijepa.search.where import rows_where

__all__ = ["Index"]


class Index:
    """A model's joint embeddings of all images and captions of a store, ready to be searched.

    `search` takes rows of `index.embedder.encode_text(..., form=index.form)` or `encode_image`.
    Searching is safe from several threads.
    """

    def __init__(self, embedder: Embedder, store: Store, shelf: Shelf, card: IndexCard) -> None:
        self.embedder = embedder
        self.store = store
        self.card = card
        self.folder = shelf.folder
        self._vectors = {side: shelf.vectors(side) for side in ("images", "texts")}

    @classmethod
    def build(
        cls,
        model: Embedder | str | Path,
        store: str,
        *,
        threads: int | None = None,
        console: Console | None = None,
    ) -> Index:
        """Embed what `store` holds and open the index; only what is new where there is one.

        `model` is a run folder or a loaded model. The embeddings lie beside the store, in
        `NAME.index/MODEL`; an interrupted call is taken up by the next. Raises `DataError`,
        `CheckpointError` and `ConfigError`.
        """
        embedder = _embedder(model)
        form = embedder.default_form
        opened = Store(check_store(store))
        name = fingerprint(embedder)
        shelf = Shelf(index_folder(store, name), _length(embedder, form))
        console = console or Console(quiet=True)
        if not verified(shelf, opened):
            shelf.clear()  # its rows are not those of this store any more
        total = opened.dataset.count_rows()
        if shelf.rows < total:
            with watched(console, "embedding rows", total) as advance:
                advance(shelf.rows)
                embed_store(
                    embedder,
                    form,
                    opened,
                    shelf,
                    threads=(os.cpu_count() or 1) if threads is None else threads,
                    advance=advance,
                )
        last = shelf.chunks[-1]
        card = IndexCard(
            model=name,
            form=form,
            length=shelf.length,
            store=opened.uri,
            version=opened.version,
            rows=last.stop,
            images=last.images,
            texts=last.texts,
            unreadable=last.unreadable,
        )
        write_card(card, shelf.folder)
        return cls(embedder, opened, shelf, card)

    @classmethod
    def open(cls, model: Embedder | str | Path, store: str) -> Index:
        """Open what `build` made, at the version of the store that it covers.

        Raises `DataError` where the model has no index on the store, or that version is gone.
        """
        embedder = _embedder(model)
        name = fingerprint(embedder)
        folder = index_folder(check_store(store), name)
        card = read_card(folder)
        run = model if isinstance(model, (str, Path)) else "RUN"
        remedy = f"make it with: tijepa index {run} {store}"
        if card is None:
            Store(store)  # rather say that there is no store, where that is so
            raise DataError(f"{store} has no index of this model: {remedy}")
        opened, shelf = Store(store, card.version), Shelf(folder, card.length)
        if not verified(shelf, opened, only_ends=True):
            raise DataError(f"{store} was written anew since it was indexed: {remedy}")
        return cls(embedder, opened, shelf, card)

    @property
    def form(self) -> Form:
        """The form of energy, and of the rows that `search` takes."""
        return self.card.form

    def __len__(self) -> int:
        """Rows of the store that are searched."""
        return self.card.rows

    @property
    def behind(self) -> int:
        """Rows that the store has got since; `build` adds them."""
        return int(Store(self.store.uri).dataset.count_rows()) - self.card.rows

    def search(
        self,
        queries: Float[Tensor, "q j"],
        k: int = 10,
        *,
        among: Side = "images",
        where: str | None = None,
    ) -> list[list[Hit]]:
        """The k hits of lowest energy for each query, best first; fewer where fewer exist.

        Rows of texts search among the images, rows of images among the "texts". `where` is a
        condition on the store's columns, such as "split = 'test' AND likes > 3". Raises
        `ConfigError` for a k below 1, rows of another length, and a condition that is none.
        """
        if k < 1:
            raise ConfigError(f"k is {k}: it must be at least 1")
        if queries.shape[1] != self.card.length:
            raise ConfigError(
                f"queries have {queries.shape[1]} numbers, and the index {self.card.length}:"
                f" encode them with form='{self.form}' by the model of the index"
            )
        found = self._find(queries.detach().cpu().float().numpy(), k, among, where)
        return self._hits(found, among)

    def pictures(self, rows: Sequence[int]) -> list[bytes | None]:
        """The picture files of some rows of the store, None where a row has none."""
        found: list[bytes | None] = self._taken(rows, ["image"])["image"]
        return found

    def _find(self, queries: NDArray[np.float32], k: int, among: Side, where: str | None) -> Found:
        vectors = self._vectors[among]
        allowed = None
        if where is not None:
            allowed = np.flatnonzero(np.isin(vectors.rows, rows_where(self.store, where)))
        return exact_search(vectors.values, queries, k, allowed)

    def _hits(self, found: Found, among: Side) -> list[list[Hit]]:
        vectors, match = self._vectors[among], self.embedder.match
        used = np.unique(found.positions)
        rows = vectors.rows[used]
        # captions of a row stand together, so a text's place behind its row's first is its number
        numbers = used - np.searchsorted(vectors.rows, rows) if among == "texts" else 0 * used
        taken = self._taken(rows, ["id", "captions", "split"])
        details = {
            int(place): (int(row), item, own[number] if own else None, split)
            for place, row, number, item, own, split in zip(
                used, rows, numbers, taken["id"], taken["captions"], taken["split"], strict=True
            )
        }

        def hit(place: int, energy: float) -> Hit:
            row, item, caption, split = details[place]
            p = None if match is None else float(match.probability(torch.tensor(energy)))
            return Hit(item, row, energy, p, caption, split)

        return [
            [hit(int(place), float(energy)) for place, energy in zip(*query, strict=True)]
            for query in zip(found.positions, found.energies, strict=True)
        ]

    def _taken(self, rows: Sequence[int] | NDArray[np.int64], columns: list[str]) -> dict[str, Any]:
        """Columns of the rows, in their order, which may name one twice."""
        unique, back = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        table = self.store.take(unique, columns)
        return {name: [table[name][int(k)].as_py() for k in back] for name in columns}


def _embedder(model: Embedder | str | Path) -> Embedder:
    return model if isinstance(model, Embedder) else load(model)


def _length(embedder: Embedder, form: Form) -> int:
    return int(embedder.encode_text(["a"], form=form).shape[1])
