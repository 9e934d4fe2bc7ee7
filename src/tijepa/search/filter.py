"""What a model's energies say of a store: which pairs fit best, and who may pair with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.store.prepare import Prepared
from tijepa.data.store.source import Store
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form
from tijepa.inference.feature_cache import FeatureCache
from tijepa.io.progress import SILENT, Reporter
from tijepa.runs.record import trained_on
from tijepa.search.columns import rows_where
from tijepa.search.derived_reader import (
    FilteredReader,
    PseudoPairReader,
    check_new_store,
    write_new_store,
)
from tijepa.search.embed_store import embedded_store
from tijepa.search.energies_report import write_report
from tijepa.search.index import opened_model
from tijepa.search.manifest import check_store
from tijepa.search.pair_energies import (
    caption_energies,
    check_keep,
    find_pseudo_pairs,
    folded_energies,
    judged_by,
    keep_best,
    unpaired,
)

_JUDGED = {
    "folds": "the run was trained on these pairs, which are few: each was judged by the closed form"
    " that four other fifths give.",
    "many": "the run was trained on these pairs, which are so many that wrong ones stand out all"
    " the same.",
    "memory": "the run was trained on these pairs and has memorised part of them, so wrong ones may"
    " look right: judge by a run with frozen encoders, or by one that was trained on others.",
}


@dataclass(frozen=True)
class Filtered:
    """Of `pairs` the share of lowest energy was `kept`, up to `highest_energy_kept`.

    `form` is that of the energies, `report` the page, `facts` what filter.json holds, `dropped`
    the numbers of captions that went, by row of the store, and `written` the new store of what
    stays, where one was asked for.
    """

    pairs: int
    kept: int
    highest_energy_kept: float
    form: Form
    report: Path
    facts: Mapping[str, Any]
    dropped: Mapping[int, Sequence[int]]
    written: Prepared | None


@dataclass(frozen=True)
class Paired:
    """`images` and `texts` without partner have made `pairs`, of which the best were `kept`.

    `mutual` of those are pairs in which each chose the other. `form` is that of the energies,
    `report` the page, `facts` what pair.json holds, `partners` the rows of texts by that of their
    image, and `written` the new store with the pseudo-pairs, where one was asked for.
    """

    images: int
    texts: int
    pairs: int
    kept: int
    mutual: int
    form: Form
    report: Path
    facts: Mapping[str, Any]
    partners: Mapping[int, Sequence[int]]
    written: Prepared | None


def filter_store(
    model: Embedder | str | Path,
    store: str,
    out: str | Path,
    *,
    keep: float,
    where: str | None = None,
    all_splits: bool = False,
    new_store: str | None = None,
    checkpoint: str | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Filtered:
    """Judge the training pairs of `store`, those that meet `where`; write the verdict into `out`.

    Held-out splits are left alone, unless `all_splits`: what a model is measured on is not chosen
    by a model. Few pairs that the run was trained on are judged by the closed form of the others
    (`FoldedEnergies`), for it has memorised them; the page and `filter.json` say how it was done.

    `kept.jsonl` and `dropped.jsonl` have one line for each pair: id, row, caption and its number in
    the row, energy and, where the model has one, probability of match. `filter.json` counts,
    `filter.html` shows the histogram and the worst and best pairs. The store stays as it is; what
    of it is kept, the share `keep` of lowest energy, is written as `new_store` (NAME.lance) where
    one is named. `model` and `checkpoint` are as for `tijepa.index`.

        filtered = tijepa.filter("runs/photos", "noisy.lance", "filtered", keep=0.8)
        filtered.highest_energy_kept

    Raises `ConfigError`, `DataError` and `CheckpointError`.
    """
    out = Path(out)
    check_keep(keep)
    check_new_store(new_store)
    embedder = opened_model(model, checkpoint)
    opened = Store(check_store(store))
    if all_splits:
        rows = None if where is None else rows_where(opened, where)
    else:
        rows = _training_rows(opened, where)
    with embedded_store(embedder, store, threads=threads, reporter=reporter) as embedded:
        measured = caption_energies(embedded.vector_store, embedded.form, rows)
    judged: str = ""
    match = embedder.match
    seen = np.isin(measured.rows, _training_rows(opened, None)).any()
    if seen and trained_on(model, opened):
        features = FeatureCache.open(embedder, embedded.store, reporter).rows()
        judged = judged_by(features, measured.rows)
        if judged == "folds":
            folded = folded_energies(embedder, features, measured.rows, measured.captions)
            measured, match = replace(measured, energies=folded.energies), folded.match
        reporter.say(_JUDGED[judged])
    kept = keep_best(measured, keep)
    pairs, left = len(measured), int(kept.sum())

    def about(some: NDArray[np.int64]) -> list[dict[str, Any]]:
        taken = embedded.store.take_each(measured.rows[some], ["id", "captions"]).to_pylist()
        return [
            {
                "id": own["id"],
                "row": int(measured.rows[pair]),
                "number": int(measured.captions[pair]),
                "caption": own["captions"][int(measured.captions[pair])],
            }
            for pair, own in zip(some, taken, strict=True)
        ]

    facts = write_report(
        out,
        "filter",
        match,
        embedded,
        measured.energies,
        kept,
        about,
        facts={
            "where": where,
            "all_splits": all_splits,
            "judged": judged or "by a model trained on others",
            "keep": keep,
            "pairs": pairs,
            "kept": left,
            "dropped": pairs - left,
        },
        lists={"kept": np.flatnonzero(kept), "dropped": np.flatnonzero(~kept)},
        order=np.argsort(measured.energies, kind="stable"),
        title="Filter",
        lead=f"{pairs:,} {'' if all_splits else 'training '}pairs"
        f"{f' where {where}' if where else ''}, judged in store version {embedded.store.version}."
        f"{' ' if judged else ''}{_JUDGED.get(judged, '').capitalize()}",
        tiles={"Pairs": pairs, "Kept": left, "Dropped": pairs - left},
    )
    dropped = _by_row(measured.rows[~kept], measured.captions[~kept])
    return Filtered(
        pairs=pairs,
        kept=left,
        highest_energy_kept=facts["highest_energy_kept"],
        form=embedded.form,
        report=out / "filter.html",
        facts=facts,
        dropped=dropped,
        written=write_new_store(FilteredReader, dropped, store, new_store, threads, reporter),
    )


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
    rows = _training_rows(Store(check_store(store)), where)
    with embedded_store(embedder, store, threads=threads, reporter=reporter) as embedded:
        alone = unpaired(embedded.vector_store, rows)
        with reporter.bar("comparing images", len(alone["images"])) as advance:
            found = find_pseudo_pairs(embedded.vector_store, embedded.form, alone, advance)
    chosen = found if keep is None else found.best(keep)
    every = np.arange(len(chosen))

    def about(some: NDArray[np.int64]) -> list[dict[str, Any]]:
        images = embedded.store.take_each(chosen.images[some], ["id"])["id"].to_pylist()
        texts = embedded.store.take_each(chosen.texts[some], ["id", "captions"]).to_pylist()
        return [
            {
                "id": image,
                "row": int(chosen.images[pair]),
                "partner": text["id"],
                "partner_row": int(chosen.texts[pair]),
                "caption": text["captions"][0],
                "captions": text["captions"],
                "mutual": bool(chosen.mutual[pair]),
            }
            for pair, image, text in zip(some, images, texts, strict=True)
        ]

    counts = {
        "images": len(np.unique(found.images)),
        "texts": len(np.unique(found.texts)),
        "pairs": len(found),
        "kept": len(chosen),
        "mutual": int(chosen.mutual.sum()),
    }
    facts = write_report(
        out,
        "pair",
        embedder.match,
        embedded,
        found.energies,
        np.arange(len(found)) < len(chosen),
        about,
        facts={"where": where, "keep": keep, **counts},
        lists={"pairs": every},
        order=every,
        title="Pseudo-pairs",
        lead="Images without caption and texts without image of the train split"
        f"{f' where {where}' if where else ''}, store version {embedded.store.version}, each with"
        " its nearest.",
        tiles={
            "Images": counts["images"],
            "Texts": counts["texts"],
            "Pseudo-pairs": counts["kept"],
            "Mutual": counts["mutual"],
        },
    )
    partners = _by_row(chosen.images, chosen.texts)
    return Paired(
        **counts,
        form=embedded.form,
        report=out / "pair.html",
        facts=facts,
        partners=partners,
        written=write_new_store(PseudoPairReader, partners, store, new_store, threads, reporter),
    )


def _training_rows(store: Store, where: str | None) -> NDArray[np.int64]:
    """Rows of the train split, those that meet `where`."""
    rows = rows_where(store, "split = 'train'")
    return rows if where is None else np.intersect1d(rows, rows_where(store, where))


def _by_row(rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
        found.setdefault(row, []).append(number)
    return found
