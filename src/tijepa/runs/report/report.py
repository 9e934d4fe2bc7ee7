"""The report of a run, one page without network or script, and the gallery in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.pairs import PairSource
from tijepa.evaluate.measure import EvaluationSet
from tijepa.inference.embeddings import SearchEnergies
from tijepa.inference.results import (
    Direction,
    Health,
    Retrieval,
    shown_verdict,
    trouble_in_training,
)
from tijepa.io.formatting import count, date, plain, times_chance
from tijepa.io.page import thumbnail, write_page
from tijepa.runs.record import RunRecord, read_run
from tijepa.runs.report.curves import DIRECTIONS, curves, health, match, sign_of
from tijepa.runs.report.sections import collapse, energies, rejected, reproduce, results, training

IMAGE_SIDE = 160  # pixels of the shorter side, at least, where the original has as many
ANSWERS = 5


def gallery_of(
    evaluation: EvaluationSet, energy: SearchEnergies, source: PairSource, count: int = 6
) -> list[Query]:
    """`count` texts that ask for images, then `count` images that ask for texts.

    Rows and columns of `energy` follow `evaluation`, whose items come from `source`. The five
    answers of lowest energy are kept, best first; energies that are not numbers come last. Raises
    `DataError` where an image can no longer be read.
    """
    images, texts = energy.images.detach().cpu(), energy.texts.detach().cpu()
    owner: list[int] = evaluation.image_of_text.tolist()

    def by_text(text: int) -> Query:
        rows = _lowest(images[:, text])
        answers = [
            Result(
                energy=float(images[row, text]),
                is_match=row == owner[text],
                image=source.image(evaluation.indices[row], IMAGE_SIDE),
                caption=evaluation.texts[owner.index(row)] if row in owner else None,
            )
            for row in rows
        ]
        return Query("text_to_image", answers, text=evaluation.texts[text])

    def by_image(row: int) -> Query:
        answers = [
            Result(
                energy=float(texts[row, text]),
                is_match=owner[text] == row,
                caption=evaluation.texts[text],
            )
            for text in _lowest(texts[row])
        ]
        image = source.image(evaluation.indices[row], IMAGE_SIDE)
        return Query("image_to_text", answers, image=image)

    return [
        *(by_text(text) for text in _spread(images.shape[1], count)),
        *(by_image(row) for row in _spread(images.shape[0], count)),
    ]


def _lowest(energies: Float[Tensor, " n"]) -> list[int]:
    order = energies.masked_fill(energies.isnan(), torch.inf).argsort(stable=True)
    found: list[int] = order[:ANSWERS].tolist()
    return found


def _spread(size: int, count: int) -> list[int]:
    """At most `count` positions, each in the middle of an equal share of `size`."""
    count = min(size, count)
    return [(2 * k + 1) * size // (2 * count) for k in range(count)]


# One query of the gallery and its answers, as the report shows them.


@dataclass(frozen=True)
class Result:
    """One answer: an image, uint8 (height, width, 3), or a caption; with its energy."""

    energy: float
    is_match: bool
    image: np.ndarray | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Query:
    """A text that asks for images, or an image, uint8 (height, width, 3), that asks for texts.

    `results` come best first; the gallery shows the first five. `caption` of an answer that is a
    image is optional and becomes its alternative text.
    """

    kind: Literal["text_to_image", "image_to_text"]
    results: Sequence[Result]
    text: str | None = None
    image: np.ndarray | None = None


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
