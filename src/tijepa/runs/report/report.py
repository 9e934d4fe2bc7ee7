"""One page about one run: `report.html`, a single file that needs no network and runs no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tijepa.inference.results import (
    Direction,
    Health,
    Retrieval,
    shown_verdict,
    trouble_in_training,
)
from tijepa.io.formatting import count, date, plain, times_chance
from tijepa.io.page import thumbnail, write_page
from tijepa.runs.gallery import Query
from tijepa.runs.record import RunRecord, read_run
from tijepa.runs.report.curves import DIRECTIONS, curves
from tijepa.runs.report.health import health, sign_of
from tijepa.runs.report.match import match
from tijepa.runs.report.sections import collapse, energies, rejected, reproduce, results
from tijepa.runs.report.training import training

SHOWN = 5  # answers of a query


def write_report(run_dir: Path, *, energy: Float[Tensor, "i t"], gallery: Sequence[Query]) -> Path:
    """Write `run_dir/report.html` and return its path.

    `energy` holds the energies of some (say 64) held-out pairs, pair k in row k and column k. An
    empty matrix, an empty gallery and any missing file of the run folder are said in words on the
    page. The page appears whole or not at all. Raises `CheckpointError` where the folder is missing
    or cannot be written, `DataError` for images that are not uint8 (height, width, 3).
    """
    path, run = run_dir / "report.html", read_run(run_dir)
    write_page(
        path,
        "report.html",
        title=f"{run.name} | tijepa run",
        name=run.name,
        head=_headline(run),
        results=results(run),
        training=training(run),
        gallery=_gallery(gallery),
        energies=energies(energy),
        match=match(run),
        curves=curves(run),
        health=health(run),
        collapse=collapse(run),
        skipped=rejected(run),
        reproduce=reproduce(run),
    )
    return path


def _headline(run: RunRecord) -> dict[str, Any]:
    """The verdict, and the final figures or the last ones taken while training."""
    environment = run.environment or {}
    started = environment.get("started", environment.get("date"))
    judged, _ = run.best_known("collapse")
    verdict, reason = None, "Collapse has not been measured yet."
    if judged.collapse is not None:
        verdict, words = shown_verdict(judged.collapse, run.health)
        reason = words or "no reason recorded"
        reason = f"{reason[:1].upper()}{reason[1:]}."
    # the guard's last verdict where the run ended in trouble; the model is from before
    ended = trouble_in_training(judged.collapse, run.health)
    at = count((run.health or Health()).step or 0)
    return {
        "started": date(started) if isinstance(started, str) else None,
        "verdict": verdict,
        "sign": sign_of(verdict),
        "reason": reason,
        "trouble": None if ended is None else {"verdict": ended, "step": at},
        "retrieval": _retrieval(run),
    }


def _retrieval(run: RunRecord) -> dict[str, Any] | None:
    measured, origin = run.best_known("retrieval")
    found = measured.retrieval
    if found is None:
        return None
    form = None if run.results is None else run.results.form
    return {
        "origin": origin,
        "by": "" if form is None else f"{plain(form)} ",
        "images": found.num_images,
        "texts": found.num_texts,
        "chance": found.chance_at_1,
        "tiles": [_tile(title, found.directions[key], found) for key, title in DIRECTIONS],
    }


def _tile(title: str, direction: Direction, found: Retrieval) -> dict[str, Any]:
    recalls = dict(zip((10, 5, 1), reversed(direction.recalls), strict=True))
    return {
        "title": title,
        **{f"recall_at_{k}": recall for k, recall in recalls.items()},
        "median_rank": direction.median_rank,
        "times_chance": times_chance(recalls[1], found.chance_at_1),
        "bars": [
            (k, f"{100 * min(max(recall, 0.0), 1.0):.2f}")
            for k, recall in recalls.items()
            if not math.isnan(recall)
        ],
    }


def _gallery(queries: Sequence[Query]) -> dict[str, Any] | str:
    """Both kinds under their own heading, in the order given. `DataError` for bad images."""
    kinds = []
    for kind, heading in (
        ("text_to_image", "A caption asks for its image"),
        ("image_to_text", "An image asks for its caption"),
    ):
        chosen = [_query(query) for query in queries if query.kind == kind]
        if chosen:
            kinds.append((kind, heading, chosen))
    return {"kinds": kinds} if kinds else "No retrievals were recorded for this run."


def _query(query: Query) -> dict[str, Any]:
    return {
        "text": query.text,
        "image": thumbnail(query.image),
        "answers": [
            {
                "energy": one.energy,
                "is_match": one.is_match,
                "caption": one.caption,
                "image": thumbnail(one.image),
            }
            for one in query.results[:SHOWN]
        ],
    }
