"""The section on the run's health: the collapse guard's verdict, advice, and what it watched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from tijepa.inference.results import Health
from tijepa.io.formatting import count
from tijepa.io.page import Table, render
from tijepa.runs.record import RunRecord
from tijepa.runs.report.charts import line_chart
from tijepa.runs.report.curves import all_series

_SIGNS = {
    "healthy": "✓ Healthy",
    "early": "Too early",
    "unjudged": "Not judged",
    "degrading": "! Degrading",
    "collapsed": "✕ Collapsed",
}
_CHARTS = (
    (
        "How much nearer right partners are than wrong ones, by direction",
        ("image_to_text", "text_to_image"),
        "gap",
        "As a share of the energy of a constant guess: 0 for such a guess, 0.2 for a"
        " prediction that explains a tenth of the variance.",
    ),
    (
        "Spread of the embeddings",
        ("image", "text", "fused", "image targets", "text targets", "fused targets"),
        "spread",
        "0 for constant embeddings; near 1 for centred ones.",
    ),
    (
        "Drift between target encoders and context encoders",
        ("image targets", "text targets", "fused targets"),
        "drift",
        "0 where both say the same, 1 where they are unrelated.",
    ),
)


def sign_of(verdict: str | None, unknown: str = "Not judged") -> str:
    """A verdict as readers see it; `unknown` for one that is none of ours."""
    return "No verdict" if verdict is None else _SIGNS.get(verdict, unknown)


def health(run: RunRecord) -> Markup:
    """The verdict while training, since when, what usually helps, rollbacks, and the curves."""
    found = run.health
    if found is None:
        return render("health.html", found=None)
    verdict = str(found.verdict)
    return render(
        "health.html",
        found={
            "verdict": verdict,
            "sign": sign_of(verdict, verdict),
            "step": count(found.step or 0),
            "reason": found.reason or "no reason recorded",
            "advice": list(found.advice),
        },
        tables=[_history(run), *_rollbacks(found)],
        charts=list(_charts(run)),
    )


def _history(run: RunRecord) -> Table:
    """The verdicts in order, neighbours that are the same as one row."""
    spans: list[list[Any]] = []
    for one in run.evals:
        verdict = None if one.health is None else one.health.verdict
        if verdict is None:
            continue
        if spans and spans[-1][2] == verdict:
            spans[-1][1] = one.step
        else:
            spans.append([one.step, one.step, verdict])
    rows = [
        (count(first), count(last), sign_of(verdict, verdict)) for first, last, verdict in spans
    ]
    head = ("from step", "to step", "verdict")
    return Table("Verdicts while it trained.", head, rows, words=(2,))


def _rollbacks(found: Health) -> Iterable[Table]:
    rows = [(count(one.from_step), count(one.to_step), one.reason) for one in found.rollbacks]
    if rows:
        caption = "Rollbacks; the readings of abandoned steps are not in the curves."
        yield Table(caption, ("at step", "back to", "because"), rows, words=(2,))


def _charts(run: RunRecord) -> Iterable[Markup]:
    for title, subjects, reading, note in _CHARTS:
        wanted = {
            name.replace("_", " "): ("health", "readings", name, reading) for name in subjects
        }
        series = all_series(run.evals, wanted)
        if series:
            yield line_chart(title, series, note=note)
