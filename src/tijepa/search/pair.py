"""Find partners for the pictures and texts of a store that have none, and show who was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tijepa.data.store.progress import watched
from tijepa.data.store.source import Store
from tijepa.embedder import Embedder
from tijepa.evaluate.page.shell import write_page
from tijepa.model.saving import write_json
from tijepa.model.writing import whole, writing
from tijepa.search.embedding import embedded_store
from tijepa.search.energies_page import energies_page, shown, spread
from tijepa.search.judged import check_keep, match_probabilities
from tijepa.search.partners import Partners, find_partners, without_partner
from tijepa.search.place import check_store
from tijepa.search.where import rows_where

__all__ = ["Paired", "pair_store"]

EXAMPLES = 24
_ROWS = 8192


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
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with whole(out / "pairs.jsonl") as path, open(path, "w", encoding="utf-8") as file:
        for start in range(0, len(chosen), _ROWS):
            some = np.arange(start, min(start + _ROWS, len(chosen)))
            file.writelines(
                json.dumps(line) + "\n" for line in _about(opened, chosen, probabilities, some)
            )
    best = _about(opened, chosen, probabilities, np.arange(len(chosen))[:EXAMPLES])
    worst = _about(opened, chosen, probabilities, np.arange(len(chosen))[::-1][:EXAMPLES])
    page = energies_page(
        f"Pseudo-pairs: {facts['store']}",
        f"Pictures without caption and texts without picture of the train split"
        f"{f' where {where}' if where else ''}, store version {facts['version']}, each"
        " with its nearest.",
        {
            "Pictures": facts["images"],
            "Texts": facts["texts"],
            "Pseudo-pairs": len(chosen),
            "Mutual": facts["mutual"],
        },
        facts,
        shown(opened, worst),
        shown(opened, best),
    )
    write_page(out / "pair.html", page)
    facts |= {"worst": worst, "best": best}
    write_json(facts, out / "pair.json")
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
