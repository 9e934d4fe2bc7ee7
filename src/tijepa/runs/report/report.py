"""One page about one run: `report.html`, a single file that needs no network and runs no script.

Every text that comes from outside (names, captions, reasons, settings) passes through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tijepa.inference.hub.provenance import shown_verdict, trouble_in_training
from tijepa.io.formatting import count, escape, number, percent, plain, rank, times_chance
from tijepa.runs.gallery import Query, Result
from tijepa.runs.record import RunRecord, part, read_run, value
from tijepa.runs.report.curves import curves
from tijepa.runs.report.health import health, sign_of
from tijepa.runs.report.images import thumbnail
from tijepa.runs.report.match import match
from tijepa.runs.report.sections import collapse, energies, rejected, reproduce, results
from tijepa.runs.report.shell import DIRECTIONS, paragraph, unknown, whole_page, write_page
from tijepa.runs.report.training import training

__all__ = ["gallery_html", "headline", "write_report"]


def write_report(run_dir: Path, *, energy: Float[Tensor, "i t"], gallery: Sequence[Query]) -> Path:
    """Write `run_dir/report.html` and return its path.

    `energy` holds the energies of some (say 64) held-out pairs, pair k in row k and column k. An
    empty matrix, an empty gallery and any missing file of the run folder are said in words on the
    page. The page appears whole or not at all. Raises `CheckpointError` where the folder is missing
    or cannot be written, `DataError` for images that are not uint8 (height, width, 3).
    """
    path = run_dir / "report.html"
    write_page(path, _page(read_run(run_dir), energy, gallery))
    return path


def _page(run: RunRecord, energy: Tensor, gallery: Sequence[Query]) -> str:
    sections = (
        ("results", "Results", results(run)),
        ("training", "What was trained", training(run)),
        ("gallery", "Top retrievals", gallery_html(gallery)),
        ("energies", "Energy matrix", energies(energy)),
        ("match", "Probability of match", match(run)),
        ("curves", "While it trained", curves(run)),
        ("health", "Health", health(run)),
        ("collapse", "Collapse readings", collapse(run)),
        ("skipped", "Items skipped", rejected(run)),
        ("reproduce", "Reproduce", reproduce(run)),
    )
    return whole_page(f"{run.name} | tijepa run", headline(run), sections)


# The top of the page: name, verdict, recall at 1 both ways beside chance.


def headline(run: RunRecord) -> str:
    """The final figures, or the last ones taken while training, or that there are none."""
    environment = run.environment or {}
    started = environment.get("started", environment.get("date"))
    kicker = "Training run" + (f", started {started}" if isinstance(started, str) else "")
    top = f"{paragraph(kicker, 'kicker')}<h1>{escape(run.name)}</h1>{_verdict(run)}"
    found, origin = run.best_known("retrieval")
    if found is None:
        return top + paragraph("Nothing has been evaluated yet.", "lead")
    chance = value(found, "chance_at_1")
    form = (run.results or {}).get("form")
    by = f"by {plain(form)} energy" if isinstance(form, str) else "by energy"
    lead = (
        f"Retrieval among {count(value(found, 'num_images'))} held-out images and"
        f" {count(value(found, 'num_texts'))} texts {by} ({origin}). By chance, the right one comes"
        f" first in {percent(chance)} of cases."
    )
    tiles = "".join(_tile(title, part(found, key), chance) for key, title in DIRECTIONS)
    return f'{top}{paragraph(lead, "lead")}<div class="tiles">{tiles}</div>'


def _verdict(run: RunRecord) -> str:
    readings, _ = run.best_known("collapse")
    if readings is None:
        verdict, reason = None, "Collapse has not been measured yet."
    else:
        verdict, words = shown_verdict(readings, run.health)
        reason = words or "no reason recorded"
        reason = f"{reason[:1].upper()}{reason[1:]}."
    sign = f"<b>{sign_of(verdict)}</b> <span>{escape(reason)}</span>"
    return f'<p class="verdict {escape(verdict or "")}">{sign}</p>' + _trouble_in_training(run)


def _trouble_in_training(run: RunRecord) -> str:
    """The guard's last verdict where the run ended in trouble; the model above is from before."""
    readings, _ = run.best_known("collapse")
    ended = trouble_in_training(readings or {}, run.health)
    if ended is None:
        return ""
    return paragraph(
        f"While it trained the run was {ended} at its last evaluation, step"
        f" {count(value(run.health or {}, 'step'))}: see Health."
    )


def _tile(title: str, direction: Mapping[str, Any], chance: float) -> str:
    recalls = {k: value(direction, f"recall_at_{k}") for k in (1, 5, 10)}
    bars = "".join(
        f'<rect class="bar-{k}" width="{100 * min(max(recalls[k], 0.0), 1.0):.2f}%" height="12"/>'
        for k in (10, 5, 1)
        if not math.isnan(recalls[k])
    )
    return (
        f'<div class="tile"><h2>{title}</h2>'
        f'<p class="big">{percent(recalls[1])} <small>recall at 1,'
        f" {times_chance(recalls[1], chance)} chance</small></p>"
        '<svg aria-hidden="true" focusable="false">'
        f'<rect class="bar-ground" width="100%" height="12"/>{bars}</svg><dl>'
        f"<div><dt>at 5</dt><dd>{percent(recalls[5])}</dd></div>"
        f"<div><dt>at 10</dt><dd>{percent(recalls[10])}</dd></div>"
        f"<div><dt>median rank</dt><dd>{rank(value(direction, 'median_rank'))}</dd></div>"
        "</dl></div>"
    )


# The gallery as HTML: what was asked, and the five answers of lowest energy.


SHOWN = 5


def gallery_html(queries: Sequence[Query]) -> str:
    """Both kinds under their own heading, in the order given. `DataError` for bad images."""
    parts = []
    for kind, heading in (
        ("text_to_image", "A caption asks for its image"),
        ("image_to_text", "An image asks for its caption"),
    ):
        chosen = [query for query in queries if query.kind == kind]
        if chosen:
            cards = "".join(
                _by_text(q) if kind == "text_to_image" else _by_image(q) for q in chosen
            )
            parts.append(f'<h3>{heading}</h3><div class="cards {kind}">{cards}</div>')
    if not parts:
        return unknown("No retrievals were recorded for this run.")
    about = (
        "The five answers of lowest energy, best first. The number is the energy; green and ✓ mark"
        " the true partner."
    )
    return paragraph(about) + "".join(parts)


def _by_text(query: Query) -> str:
    answers = "".join(
        f'<li class="{_state(one)}">{_image(one.image, one.caption or f"Result {rank}")}'
        f'<span class="energy">{_mark(one)}{number(one.energy)}</span></li>'
        for rank, one in enumerate(query.results[:SHOWN], start=1)
    )
    return (
        f'<article class="card"><blockquote dir="auto">{escape(query.text or "")}</blockquote>'
        f'<ol class="images">{answers}</ol></article>'
    )


def _by_image(query: Query) -> str:
    answers = "".join(
        f'<li class="{_state(one)}">'
        f'<span class="caption" dir="auto">{escape(one.caption or "")}</span>'
        f'<span class="energy">{_mark(one)}{number(one.energy)}</span></li>'
        for one in query.results[:SHOWN]
    )
    return (
        f'<article class="card">{_image(query.image, query.text or "Query image")}'
        f'<ol class="captions">{answers}</ol></article>'
    )


def _state(one: Result) -> str:
    return "match" if one.is_match else "other"


def _mark(one: Result) -> str:
    return '<span class="tick-mark" role="img" aria-label="match">✓</span> ' if one.is_match else ""


def _image(image: np.ndarray | None, alt: str) -> str:
    if image is None:
        return '<span class="absent">no image</span>'
    return f'<img src="{thumbnail(image)}" alt="{escape(alt)}">'
