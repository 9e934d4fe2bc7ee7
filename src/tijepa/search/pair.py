"""Find partners for the pictures and texts of a store that have none, and show who was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tijepa.data.store.progress import watched
from tijepa.data.store.source import Store
from tijepa.embedder import Embedder
from tijepa.model.writing import writing
from tijepa.search.embedding import embedded_store
from tijepa.search.energies_report import spread, write_list, write_report
from tijepa.search.judged import check_keep, match_probabilities
from tijepa.search.partners import Partners, find_partners, without_partner
from tijepa.search.place import check_store
from tijepa.search.where import rows_where

__all__ = ["Paired", "pair_store"]


@dataclass(frozen=True)
class Paired:
    """`facts` are what pair.json holds; `partners` the rows of texts by that of their picture."""

    facts: dict[str, Any]
    partners: Mapping[int, Sequence[int]]


def pair_store(
    embedder: Embedder,
    store: str,
    out: Path,
    *,
    keep: float | None = None,
    where: str | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> Paired:
    """Match pictures without caption and texts without picture of the train split of `store`.

    Each picture is paired with the text of lowest energy, and each text with its picture; `keep`
    takes the share of lowest energy. `pairs.jsonl` has one line for each, best first, `pair.json`
    counts, `pair.html` shows the best and the worst. The store stays as it is. Raises
    `ConfigError`, `DataError` and `CheckpointError`.
    """
    if keep is not None:
        check_keep(keep)
    console = console or Console(quiet=True)
    opened = Store(check_store(store))
    rows = rows_where(opened, "split = 'train'")
    if where is not None:
        rows = np.intersect1d(rows, rows_where(opened, where))
    with embedded_store(embedder, store, threads=threads, console=console) as embedded:
        alone = without_partner(embedded.shelf, rows)
        with watched(console, "comparing pictures", len(alone["images"])) as advance:
            found = find_partners(embedded.shelf, embedded.form, alone, advance)
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
        lead=f"Pictures without caption and texts without picture of the train split"
        f"{f' where {where}' if where else ''}, store version {facts['version']}, each with its"
        " nearest.",
        tiles={
            "Pictures": facts["images"],
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
    return Paired(facts, partners)


def _about(
    store: Store,
    partners: Partners,
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
