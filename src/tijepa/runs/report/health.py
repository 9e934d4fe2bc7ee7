"""The section on the run's health: the collapse guard's verdict, advice, and what it watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tijepa.io.formatting import count, escape
from tijepa.runs.record import RunRecord, part, value
from tijepa.runs.report.charts import line_chart
from tijepa.runs.report.curves import all_series
from tijepa.runs.report.shell import paragraph, table, unknown

__all__ = ["health", "sign_of"]

_SIGNS = {
    "healthy": "✓ Healthy",
    "early": "Too early",
    "degrading": "! Degrading",
    "collapsed": "✕ Collapsed",
}


def sign_of(verdict: str | None, unknown: str = "Not judged") -> str:
    """A verdict as readers see it; `unknown` for one that is none of ours."""
    return "No verdict" if verdict is None else _SIGNS.get(verdict, unknown)


def health(run: RunRecord) -> str:
    """The verdict while training, since when, what usually helps, rollbacks, and the curves."""
    found = run.health
    if found is None:
        return unknown("The collapse guard has not judged this run.")
    verdict, reason = str(found.get("verdict")), str(found.get("reason", "no reason recorded"))
    sign = sign_of(verdict, verdict)
    about = (
        "The collapse guard watches the history of the held-out readings: directions used, spread,"
        " how much each prediction depends on its input, and how far targets are from the context"
        " encoders."
    )
    return (
        paragraph(about)
        + f'<p class="verdict {escape(verdict)}"><b>{escape(sign)}</b>'
        + f" <span>At step {count(value(found, 'step'))}: {escape(reason)}.</span></p>"
        + _advice(found)
        + _history(run)
        + _rollbacks(found)
        + f'<div class="charts">{"".join(_charts(run))}</div>'
    )


def _advice(found: Mapping[str, Any]) -> str:
    hints = found.get("advice")
    if not isinstance(hints, list) or not hints:
        return ""
    items = "".join(f"<li>{escape(hint)}</li>" for hint in hints)
    return f"{paragraph('What usually helps:')}<ul>{items}</ul>"


def _history(run: RunRecord) -> str:
    """The verdicts in order, neighbours that are the same as one row."""
    spans: list[list[Any]] = []
    for line in run.evals:
        verdict = part(line, "health").get("verdict")
        if not isinstance(verdict, str):
            continue
        if spans and spans[-1][2] == verdict:
            spans[-1][1] = line["step"]
        else:
            spans.append([line["step"], line["step"], verdict])
    rows = "".join(
        f"<tr><td>{count(first)}</td><td>{count(last)}</td>"
        f'<td class="words">{escape(sign_of(verdict, verdict))}</td></tr>'
        for first, last, verdict in spans
    )
    head = (
        '<tr><th scope="col">from step</th><th scope="col">to step</th>'
        '<th scope="col" class="words">verdict</th></tr>'
    )
    return table("Verdicts while it trained.", head, rows)


def _rollbacks(found: Mapping[str, Any]) -> str:
    listed = found.get("rollbacks")
    if not isinstance(listed, list) or not listed:
        return ""
    rows = "".join(
        f"<tr><td>{count(value(one, 'from_step'))}</td><td>{count(value(one, 'to_step'))}</td>"
        f'<td class="words">{escape(one.get("reason", "?"))}</td></tr>'
        for one in listed
        if isinstance(one, dict)
    )
    head = (
        '<tr><th scope="col">at step</th><th scope="col">back to</th>'
        '<th scope="col" class="words">because</th></tr>'
    )
    caption = "Rollbacks; the readings of abandoned steps are not in the curves."
    return f'<div class="table-gap">{table(caption, head, rows)}</div>'


def _charts(run: RunRecord) -> Iterable[str]:
    for title, subjects, reading, note in (
        (
            "Gap as a share of the marginal energy, by direction",
            ("image_to_text", "text_to_image"),
            "gap",
            "0 for a constant prediction, 0.2 for one that explains a tenth of the variance.",
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
    ):
        wanted = {
            name.replace("_", " "): ("health", "readings", name, reading) for name in subjects
        }
        series = all_series(run.evals, wanted)
        if series:
            yield line_chart(title, series, note=note)
