"""Pseudo-pairs: the text that each image without caption is nearest to, and the other way round.

Shape letters: i images, t texts, j numbers of a joint embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.data.pairs import Rejected
from tijepa.data.records import ReaderOptions, Record
from tijepa.data.store.prepare import Prepared
from tijepa.data.store.source import Store
from tijepa.errors import DataError
from tijepa.inference.embedder import Embedder, Form
from tijepa.io.files import writing
from tijepa.io.progress import SILENT, Reporter
from tijepa.search.embed_store import embedded_store
from tijepa.search.energies_report import spread, write_list, write_report
from tijepa.search.filter import DerivedReader, check_new_store, write_new_store
from tijepa.search.index import opened_model
from tijepa.search.manifest import check_store
from tijepa.search.pair_scores import check_keep, kept_count, match_probabilities, pair_energies
from tijepa.search.vector_store import SIDES, Side, Vectors, VectorStore
from tijepa.search.where import rows_where

__all__ = [
    "Paired",
    "PseudoPairReader",
    "PseudoPairs",
    "find_pseudo_pairs",
    "nearest_pairs",
    "pair_store",
    "unpaired",
]

_BLOCK = 8192  # images and texts multiplied at once: 256 MiB of products


@dataclass(frozen=True)
class PseudoPairs:
    """n pseudo-pairs, lowest energy first: the store rows of image and text, and the energy.

    `mutual` are those in which each chose the other.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    energies: NDArray[np.float64]
    mutual: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.energies)

    def best(self, share: float) -> PseudoPairs:
        """The share of lowest energy, as `kept_count` says."""
        kept = slice(kept_count(share, len(self)))
        return PseudoPairs(
            self.images[kept], self.texts[kept], self.energies[kept], self.mutual[kept]
        )


def unpaired(vector_store: VectorStore, rows: NDArray[np.int64]) -> dict[Side, NDArray[np.int64]]:
    """Positions of the vectors whose store row is one of `rows` and lacks the other modality.

    Raises `DataError` where either kind is missing.
    """
    images, texts = (vector_store.vectors(side).rows for side in SIDES)
    found: dict[Side, NDArray[np.int64]] = {
        "images": np.flatnonzero(np.isin(images, rows) & ~np.isin(images, texts)),
        "texts": np.flatnonzero(np.isin(texts, rows) & ~np.isin(texts, images)),
    }
    if not len(found["images"]) or not len(found["texts"]):
        raise DataError(
            f"{len(found['images']):,} images without caption and {len(found['texts']):,}"
            " captions without image: pseudo-pairs need some of both, in the train split"
        )
    return found


def find_pseudo_pairs(
    vector_store: VectorStore,
    form: Form,
    alone: dict[Side, NDArray[np.int64]],
    advance: Callable[[int], None] = lambda count: None,
) -> PseudoPairs:
    """Each image of `alone` with the text of lowest energy, and each text with its image.

    `alone` is what `unpaired` found. A store row of several captions is one text: its energy
    is the mean over them. `advance` is told how many images were compared.
    """
    images, texts = vector_store.vectors("images"), vector_store.vectors("texts")
    rows, means = _row_means(texts, alone["texts"])
    values = images.values[alone["images"]]
    at_image, at_text, mutual = nearest_pairs(values, means, advance)
    energies = pair_energies(values, at_image, means, at_text, form)
    order = np.argsort(energies, kind="stable")
    return PseudoPairs(
        images.rows[alone["images"][at_image[order]]],
        rows[at_text[order]],
        energies[order],
        mutual[order],
    )


def nearest_pairs(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Positions in (i, j) and (t, j) of every row and its largest inner product on the other side.

    Each pair once, in order, and whether it is the largest of both. All products are computed,
    block by block; of equal ones the first counts.
    """
    best_text, best_image = _Best(len(images)), _Best(len(texts))
    for a in range(0, len(images), _BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(images[a : a + _BLOCK]))
        for b in range(0, len(texts), _BLOCK):
            products = block @ torch.from_numpy(np.ascontiguousarray(texts[b : b + _BLOCK])).T
            best_text.see(a, products.max(dim=1), b)
            best_image.see(b, products.max(dim=0), a)
        advance(len(block))
    chosen, choosing = best_text.place.numpy(), best_image.place.numpy()
    by_image = np.stack([np.arange(len(images)), chosen], axis=1)
    by_text = np.stack([choosing, np.arange(len(texts))], axis=1)
    pairs, count = np.unique(np.concatenate([by_image, by_text]), axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], count == 2


class _Best:
    """For each of `count` rows the largest product so far and where it was."""

    def __init__(self, count: int) -> None:
        self.value = torch.full((count,), -torch.inf)
        self.place = torch.zeros(count, dtype=torch.int64)

    def see(self, start: int, found: torch.return_types.max, offset: int) -> None:
        part = slice(start, start + len(found.values))
        better = found.values > self.value[part]
        self.value[part] = torch.where(better, found.values, self.value[part])
        self.place[part] = torch.where(better, found.indices + offset, self.place[part])


def _row_means(
    texts: Vectors, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The store rows of some captions, each once, and the mean vector of each row's captions."""
    rows, first, counts = np.unique(texts.rows[places], return_index=True, return_counts=True)
    sums = np.add.reduceat(texts.values[places], first, axis=0)
    return rows, (sums / counts[:, None]).astype(np.float32)


# Find partners for the images and texts of a store that have none, and show who was found.


@dataclass(frozen=True)
class Paired:
    """`facts` are what pair.json holds; `partners` the rows of texts by that of their image.

    `written` is the new store with the pseudo-pairs, where one was asked for.
    """

    facts: dict[str, Any]
    partners: Mapping[int, Sequence[int]]
    written: Prepared | None = None


def pair_store(
    model: Embedder | str | Path,
    store: str,
    out: str | Path,
    *,
    keep: float | None = None,
    where: str | None = None,
    new_store: str | None = None,
    checkpoint: str | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Paired:
    """Match images without caption and texts without image of the train split of `store`.

    Each image is paired with the text of lowest energy, and each text with its image; `keep`
    takes the share of lowest energy. `pairs.jsonl` has one line for each, best first, `pair.json`
    counts, `pair.html` shows the best and the worst. The store stays as it is; `new_store`
    (NAME.lance) has the pseudo-pairs beside the true ones. `model` and `checkpoint` are as for
    `tijepa.index`. Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    out = Path(out)
    check_new_store(new_store)
    embedder = opened_model(model, checkpoint)
    if keep is not None:
        check_keep(keep)
    opened = Store(check_store(store))
    rows = rows_where(opened, "split = 'train'")
    if where is not None:
        rows = np.intersect1d(rows, rows_where(opened, where))
    with embedded_store(embedder, store, threads=threads, reporter=reporter) as embedded:
        alone = unpaired(embedded.vector_store, rows)
        with reporter.bar("comparing images", len(alone["images"])) as advance:
            found = find_pseudo_pairs(embedded.vector_store, embedded.form, alone, advance)
    opened = embedded.store
    chosen = found if keep is None else found.best(keep)
    kept = np.arange(len(found)) < len(chosen)
    probabilities = match_probabilities(embedder, found.energies)
    facts: dict[str, Any] = {
        "store": opened.uri,
        "version": opened.version,
        "model": embedded.model,
        "form": embedded.form,
        "where": where,
        "keep": keep,
        "images": len(np.unique(found.images)),
        "texts": len(np.unique(found.texts)),
        "pairs": len(found),
        "kept": len(chosen),
        "mutual": int(chosen.mutual.sum()),
        **spread(found.energies, probabilities, kept),
    }
    about = partial(_about, opened, chosen, probabilities)
    every = np.arange(len(chosen))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_list(out / "pairs.jsonl", about, every)
    facts = write_report(
        out,
        "pair",
        title=f"Pseudo-pairs: {facts['store']}",
        lead=f"Images without caption and texts without image of the train split"
        f"{f' where {where}' if where else ''}, store version {facts['version']}, each with its"
        " nearest.",
        tiles={
            "Images": facts["images"],
            "Texts": facts["texts"],
            "Pseudo-pairs": len(chosen),
            "Mutual": facts["mutual"],
        },
        facts=facts,
        store=opened,
        about=about,
        order=every,
    )
    partners: dict[int, list[int]] = {}
    for image, text in zip(chosen.images.tolist(), chosen.texts.tolist(), strict=True):
        partners.setdefault(image, []).append(text)
    written = None
    if new_store is not None:
        reader = PseudoPairReader(store, ReaderOptions(), partners)
        written = write_new_store(reader, store, new_store, threads, reporter)
    return Paired(facts, partners, written)


def _about(
    store: Store,
    partners: PseudoPairs,
    probabilities: NDArray[np.float64] | None,
    some: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """What the list says of some pseudo-pairs."""
    images = store.take_each(partners.images[some], ["id"])["id"].to_pylist()
    texts = store.take_each(partners.texts[some], ["id", "captions"]).to_pylist()
    return [
        {
            "id": image,
            "row": int(partners.images[pair]),
            "partner": text["id"],
            "partner_row": int(partners.texts[pair]),
            "caption": text["captions"][0],
            "captions": text["captions"],
            "mutual": bool(partners.mutual[pair]),
            "energy": float(partners.energies[pair]),
            "probability": None if probabilities is None else float(probabilities[pair]),
        }
        for pair, image, text in zip(some, images, texts, strict=True)
    ]


# A store whose pseudo-pairs are pairs, as a source for a new store.


_PSEUDO = "pseudo_pair"  # the column that is true where model and not source made the pair


class PseudoPairReader(DerivedReader):
    """The items of a store in order; `partners` gives rows of texts for the rows of images.

    Such an image gets the captions of its texts and, where it lacks them, the further columns of
    the first; the texts' rows go. A text may have several images. Every item says in the column
    `pseudo_pair` whether it is one.
    """

    name: ClassVar[str] = "paired"
    layout: ClassVar[str] = "a pair store with pseudo-pairs"

    def __init__(
        self,
        source: str,
        options: ReaderOptions,
        partners: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(source, options)
        self._partners = partners or {}

    def __iter__(self) -> Iterator[Record | Rejected]:
        texts = self._texts()
        for row, record in enumerate(self._store):
            if isinstance(record, Rejected):
                yield record
            elif row not in texts:
                own = [texts[partner] for partner in self._partners.get(row, ())]
                pseudo = bool(own) or bool(record.extra.get(_PSEUDO, False))
                extra = {**(own[0][1] if own else {}), **record.extra, _PSEUDO: pseudo}
                captions = tuple(text for some, _ in own for text in some) or record.captions
                yield dataclasses.replace(record, captions=captions, extra=extra)

    def describe(self) -> str:
        """See `Reader.describe`."""
        count = sum(map(len, self._partners.values()))
        return f"{self._store.describe()} with {count:,} pseudo-pairs"

    def changes(self) -> list[tuple[int, list[int]]]:
        """See `ChangedStore.changes`."""
        return [(row, list(texts)) for row, texts in sorted(self._partners.items())]

    def _texts(self) -> dict[int, tuple[tuple[str, ...], dict[str, object]]]:
        """Captions and further columns of the rows that find an image."""
        store = self._store.store
        extras = store.info.extras
        rows = np.unique(np.fromiter(chain.from_iterable(self._partners.values()), np.int64))
        table = store.take(rows, ["captions", *(field.name for field in extras.fields)])
        captions = table["captions"].to_pylist()
        others = [one for batch in table.to_batches() for one in extras.rows(batch)]
        return {
            int(row): (tuple(own), other)
            for row, own, other in zip(rows, captions, others, strict=True)
        }
