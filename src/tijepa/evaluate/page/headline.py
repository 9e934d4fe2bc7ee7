"""The top of the page: name, verdict, recall at 1 both ways beside chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tijepa.evaluate.formatting import count, escape, percent, plain, rank, times_chance
from tijepa.evaluate.page.health import sign_of
from tijepa.evaluate.page.pieces import DIRECTIONS, paragraph
from tijepa.evaluate.run_record import RunRecord, part, value
from tijepa.hub.verdict import shown_verdict, trouble_in_training

__all__ = ["headline"]


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
