"""The index of a store: search by energy among its images and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tijepa.data.store.source import Store
from tijepa.errors import ConfigError, DataError
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form
from tijepa.inference.loading import load
from tijepa.io.progress import SILENT, Reporter
from tijepa.registry import part
from tijepa.search.columns import rows_where, values_of
from tijepa.search.embed_store import embedded_store, verified
from tijepa.search.exact import Found, Hit, SearchBackend, exact_search, most_alike, rerank
from tijepa.search.ivf import EXACT_UP_TO, Lists, need_faiss, searched
from tijepa.search.manifest import (
    IndexCard,
    check_store,
    fingerprint,
    index_folder,
    make_lists,
    open_lists,
    read_card,
    remove_others,
    write_card,
)
from tijepa.search.vector_store import SIDES, Side, Vectors, VectorStore


def index(
    model: Embedder | str | Path,
    store: str,
    *,
    exact: bool = False,
    checkpoint: str | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Index:
    """Embed every image and caption of `store`, and give what can be searched.

    `model` is a run folder, of which `checkpoint` chooses the weights, or a loaded model. Given
    again it adds rows that are new, and goes on where it was stopped. With `exact` every energy is
    computed at any size, and faiss is not needed.

        index = tijepa.index("runs/photos", "photos.lance")
        index.search(index.embedder.encode_text("two dogs", form=index.form), k=5)

    Raises as `Index.build` does.
    """
    return Index.build(
        opened_model(model, checkpoint),
        store,
        exact_up_to=None if exact else EXACT_UP_TO,
        threads=threads,
        reporter=reporter,
    )


class Index:
    """A model's joint embeddings of all images and captions of a store, ready to be searched.

    `search` takes rows of `index.embedder.encode_text(..., form=index.form)` or `encode_image`.
    Searching is safe from several threads.
    """

    def __init__(
        self,
        embedder: Embedder,
        store: Store,
        vector_store: VectorStore,
        card: IndexCard,
        lists: Mapping[Side, Lists],
        backend: str | None = None,
    ) -> None:
        self.embedder = embedder
        self.store = store
        self.card = card
        self.folder = vector_store.folder
        self._vectors = {side: vector_store.vectors(side) for side in SIDES}
        self._lists = lists
        self._backends: dict[Side, SearchBackend] = {}
        if backend is not None:
            made = part("search_backend", backend)
            for side, one in self._vectors.items():
                self._backends[side] = made(searched(one.values, card.form, side))

    @classmethod
    def build(
        cls,
        model: Embedder | str | Path,
        store: str,
        *,
        exact_up_to: int | None = EXACT_UP_TO,
        threads: int | None = None,
        reporter: Reporter = SILENT,
    ) -> Index:
        """Embed what `store` holds and open the index; only what is new where there is one.

        `model` is a run folder or a loaded model. The embeddings lie beside the store, in
        `NAME.index/MODEL`; an interrupted call is taken up by the next. More images or captions
        than `exact_up_to` get inverted lists (faiss); None computes every energy at any size.
        Raises `DataError`, `CheckpointError`, `ConfigError`, and `MissingExtraError` without faiss.
        """
        embedder = opened_model(model)
        if exact_up_to is not None and Store(check_store(store)).dataset.count_rows() > exact_up_to:
            need_faiss()  # rather now than after an hour
        with embedded_store(embedder, store, threads=threads, reporter=reporter) as embedded:
            opened, vector_store = embedded.store, embedded.vector_store
            lists = make_lists(vector_store, embedded.form, exact_up_to, reporter)
            last = vector_store.chunks[-1]
            card = IndexCard(
                model=embedded.model,
                form=embedded.form,
                length=vector_store.length,
                store=opened.uri,
                version=opened.version,
                rows=last.stop,
                images=last.images,
                texts=last.texts,
                unreadable=last.unreadable,
                exact_up_to=exact_up_to,
                lists={side: one.card for side, one in lists.items()},
            )
            write_card(card, vector_store.folder)
            remove_others(vector_store, lists)
            return cls(embedder, opened, vector_store, card, lists)

    @classmethod
    def open(
        cls,
        model: Embedder | str | Path,
        store: str,
        *,
        exact: bool = False,
        backend: str | None = None,
        made_by: str | None = None,
    ) -> Index:
        """Open what `build` made, at the version of the store that it covers.

        `exact` does without inverted lists and needs no faiss; so does `backend`, the
        name of a registered search backend, which finds candidates instead. `made_by` is the
        command that makes the index, for the error where there is none. Raises `DataError` where
        the model has no index on the store, or that version is gone, and `MissingExtraError`.
        """
        embedder = opened_model(model)
        name = fingerprint(embedder)
        folder = index_folder(check_store(store), name)
        card = read_card(folder)
        run = model if isinstance(model, (str, Path)) else "RUN"
        remedy = f"make it with: {made_by or f'tijepa index {run} {store}'}"
        if card is None:
            Store(store)  # rather say that there is no store, where that is so
            raise DataError(f"{store} has no index of this model: {remedy}")
        # the vector store may have grown since, by a stopped build or for another verb
        opened, vector_store = (
            Store(store, card.version),
            VectorStore(folder, card.length, card.rows),
        )
        if vector_store.rows != card.rows or not verified(vector_store, opened, only_ends=True):
            raise DataError(f"{store} was written anew since it was indexed: {remedy}")
        lists = {} if exact or backend is not None else open_lists(vector_store, card)
        return cls(embedder, opened, vector_store, card, lists, backend)

    @property
    def form(self) -> Form:
        """The form of energy, and of the rows that `search` takes."""
        return self.card.form

    def __len__(self) -> int:
        """Rows of the store that are searched."""
        return self.card.rows

    @property
    def stale_rows(self) -> int:
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
        """The k hits of highest score for each query, best first; fewer where fewer exist.

        Rows of texts search among the images, rows of images among the "texts"; by calibrated
        energy each by its own half of the rows (`search/ivf.py`). `where` is a condition on the
        store's columns, such as "split = 'test' AND likes > 3". Raises `ConfigError` for a k below
        1, rows of another length, and a condition that is none.
        """
        self._check(queries, k)
        rows = queries.detach().cpu().float().numpy()
        found = self._find(rows, k, among, where)
        halves, nothing = (2, 0) if self.form == "calibrated" else (1, 1)
        found = found._replace(scores=halves * found.scores)
        whole = self._vectors[among].values[found.positions].astype(np.float64)
        energies = nothing - np.einsum("qkj,qj->qk", whole, rows.astype(np.float64))
        match = self.embedder.match_among("image" if among == "images" else "text")
        chances = None
        if match is not None:
            chances = match.probability(torch.from_numpy(nothing - found.scores)).numpy()
        return self._hits(found, among, energies, chances)

    def search_alike(
        self, queries: Float[Tensor, "q j"], k: int = 10, *, where: str | None = None
    ) -> list[list[Hit]]:
        """The k images of which the model expects most nearly the same texts, for rows of images.

        By the cosine of what either row says of texts; all of them are compared, whatever lists
        there are. Otherwise as `search`.
        """
        self._check(queries, k)
        vectors = self._vectors["images"]
        ends = -2 if self.form == "calibrated" else None  # an image's own terms compare nothing
        values = searched(vectors.values, self.form, "images")[:, :ends]
        asked = searched(queries.detach().cpu().float().numpy(), self.form, "images")[:, :ends]
        found = most_alike(values, np.asarray(asked, np.float32), k, self._allowed(vectors, where))
        return self._hits(found, "images", None, None)

    def described(self, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits with what the store's columns say of each."""
        found = values_of(self.store, np.array([hit.row for hit in hits], np.int64))
        return [replace(hit, columns=own) for hit, own in zip(hits, found, strict=True)]

    def images(self, rows: Sequence[int]) -> list[bytes | None]:
        """The image files of some rows of the store, None where a row has none."""
        return self.store.images(np.asarray(rows, np.int64))

    def _check(self, queries: Float[Tensor, "q j"], k: int) -> None:
        if k < 1:
            raise ConfigError(f"k is {k}: it must be at least 1")
        if queries.shape[1] != self.card.length:
            raise ConfigError(
                f"queries have {queries.shape[1]} numbers, and the index {self.card.length}:"
                f" encode them with form='{self.form}' by the model of the index"
            )

    def _allowed(self, vectors: Vectors, where: str | None) -> NDArray[np.int64] | None:
        """Places of the vectors whose rows meet a condition."""
        if where is None:
            return None
        meets = np.zeros(self.card.rows, bool)
        meets[rows_where(self.store, where)] = True
        return np.flatnonzero(meets[vectors.rows])

    def _find(self, queries: NDArray[np.float32], k: int, among: Side, where: str | None) -> Found:
        vectors, lists = self._vectors[among], self._lists.get(among)
        values = searched(vectors.values, self.form, among)
        asked = np.ascontiguousarray(searched(queries, self.form, among))
        allowed = self._allowed(vectors, where)
        few = allowed is not None and len(allowed) <= (self.card.exact_up_to or 0)
        if among in self._backends and not few:
            return rerank(values, asked, self._backends[among].search(asked, k, allowed), k)
        if lists is None or few:
            return exact_search(values, asked, k, allowed)
        return rerank(values, asked, lists.search(values, asked, k, allowed), k)

    def _hits(
        self,
        found: Found,
        among: Side,
        energies: NDArray[np.float64] | None,
        chances: NDArray[np.float64] | None,
    ) -> list[list[Hit]]:
        vectors = self._vectors[among]
        used = np.unique(found.positions)
        rows, numbers = vectors.rows[used], vectors.numbers(used)
        taken = self.store.take_each(rows, ["id", "captions", "split"]).to_pylist()
        details = dict(zip(used.tolist(), zip(rows, numbers, taken, strict=True), strict=True))

        def hit(query: int, place: int) -> Hit:
            row, number, own = details[int(found.positions[query, place])]
            return Hit(
                id=own["id"],
                row=int(row),
                score=float(found.scores[query, place]),
                energy=None if energies is None else float(energies[query, place]),
                probability=None if chances is None else float(chances[query, place]),
                caption=own["captions"][number] if own["captions"] else None,
                split=own["split"],
            )

        queries, hits = found.positions.shape
        return [[hit(query, place) for place in range(hits)] for query in range(queries)]


def opened_model(model: Embedder | str | Path, checkpoint: str | None = None) -> Embedder:
    """`model` itself, or that of a run folder; raises `CheckpointError`."""
    return model if isinstance(model, Embedder) else load(model, checkpoint=checkpoint)
