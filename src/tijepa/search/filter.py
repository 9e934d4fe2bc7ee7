"""Judge every pair of a store by its energy, keep the best share, and show what went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tijepa.data.store.source import Store
from tijepa.embedder import Embedder
from tijepa.model.writing import writing
from tijepa.search.embedding import embedded_store
from tijepa.search.energies_report import spread, write_list, write_report
from tijepa.search.judged import Judged, check_keep, judge, keep_best, match_probabilities
from tijepa.search.place import check_store
from tijepa.search.where import rows_where

__all__ = ["Filtered", "filter_store"]


@dataclass(frozen=True)
class Filtered:
    """`facts` are what filter.json holds; `dropped` the numbers of captions that went, by row."""

    facts: dict[str, Any]
    dropped: Mapping[int, frozenset[int]]


def filter_store(
    embedder: Embedder,
    store: str,
    out: Path,
    *,
    keep: float,
    where: str | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> Filtered:
    """Judge the pairs of `store`, those that meet `where`, and write the verdict into `out`.

    `kept.jsonl` and `dropped.jsonl` have one line for each pair: id, row, caption and its number in
    the row, energy and, where the model has one, probability of match. `filter.json` counts,
    `filter.html` shows the histogram and the worst and best pairs. The store stays as it is.
    Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    check_keep(keep)
    rows = None if where is None else rows_where(Store(check_store(store)), where)
    with embedded_store(embedder, store, threads=threads, console=console) as embedded:
        judged = judge(embedded.shelf, embedded.form, rows)
    opened = embedded.store
    kept = keep_best(judged, keep)
    probabilities = match_probabilities(embedder, judged.energies)
    facts: dict[str, Any] = {
        "store": opened.uri,
        "version": opened.version,
        "model": embedded.model,
        "form": embedded.form,
        "where": where,
        "keep": keep,
        "pairs": len(judged),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        **spread(judged.energies, probabilities, kept),
    }
    about = partial(_about, opened, judged, probabilities)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_list(out / "kept.jsonl", about, np.flatnonzero(kept))
    write_list(out / "dropped.jsonl", about, np.flatnonzero(~kept))
    facts = write_report(
        out,
        "filter",
        title=f"Filter: {facts['store']}",
        lead=f"{facts['pairs']:,} pairs{f' where {where}' if where else ''}, judged in store"
        f" version {facts['version']}.",
        tiles={"Pairs": facts["pairs"], "Kept": facts["kept"], "Dropped": facts["dropped"]},
        facts=facts,
        store=opened,
        about=about,
        order=np.argsort(judged.energies, kind="stable"),
    )
    gone = ~kept
    return Filtered(facts, _by_row(judged.rows[gone], judged.captions[gone]))


def _about(
    store: Store,
    judged: Judged,
    probabilities: NDArray[np.float64] | None,
    some: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """What the lists say of some pairs."""
    taken = store.take_each(judged.rows[some], ["id", "captions"]).to_pylist()
    return [
        {
            "id": own["id"],
            "row": int(judged.rows[pair]),
            "number": int(judged.captions[pair]),
            "caption": own["captions"][int(judged.captions[pair])],
            "energy": float(judged.energies[pair]),
            "probability": None if probabilities is None else float(probabilities[pair]),
        }
        for pair, own in zip(some, taken, strict=True)
    ]


def _by_row(rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
        found.setdefault(row, set()).add(number)
    return {row: frozenset(some) for row, some in found.items()}
