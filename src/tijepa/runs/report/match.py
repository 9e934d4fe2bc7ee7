"""The section on the probability of match: its errors, and its reliability as an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tijepa.io.formatting import count, escape, number, percent
from tijepa.runs.record import RunRecord, part, value
from tijepa.runs.report.shell import paragraph, unknown

__all__ = ["match"]

SIDE, LEFT, TOP, BOTTOM = 236, 48, 10, 40  # of the viewBox; the square of probabilities and around
MIN_RADIUS, MAX_RADIUS = 2.2, 11.0


def match(run: RunRecord) -> str:
    """Reliability on matched and shuffled pairs that the fit did not see."""
    found = part(run.results or {}, "match_probability")
    bins = [one for one in found.get("bins") or () if isinstance(one, dict)]
    if not bins:
        return unknown(
            "This model has no probability of match: it is fitted on a validation split."
        )
    about = (
        f"How likely the energy makes it that a pair is matched, tried on"
        f" {count(value(found, 'matched_pairs'))} matched and"
        f" {count(value(found, 'shuffled_pairs'))} shuffled pairs of equal weight. The fit saw"
        f" others ({found.get('fitted_on', 'not recorded')}). Expected calibration error"
        f" {number(value(found, 'expected_calibration_error'))}, Brier score"
        f" {number(value(found, 'brier'))} (a coin has 0.25), area under the ROC curve"
        f" {number(value(found, 'roc_auc'))}."
    )
    note = "Each dot is a tenth of the scale; its area is the share of pairs that fall there."
    return (
        paragraph(about)
        + '<figure class="chart"><figcaption>Reliability</figcaption>'
        + _svg(bins)
        + f'<p class="note">{note} On the dashed line probabilities are true.</p></figure>'
    )


def _svg(bins: Sequence[Mapping[str, Any]]) -> str:
    filled = [one for one in bins if math.isfinite(value(one, "matched") + value(one, "predicted"))]
    described = "; ".join(
        f"{percent(value(one, 'predicted'))} predicted, {percent(value(one, 'matched'))} matched"
        for one in filled
    )
    width = LEFT + SIDE + LEFT
    parts = [
        f'<svg viewBox="0 0 {width} {TOP + SIDE + BOTTOM}" role="img"'
        f' aria-label="{escape(f"Reliability: {described}")}">'
    ]
    for tenth in range(0, 11, 2):
        x, y = _x(tenth / 10), _y(tenth / 10)
        label = f"{10 * tenth}\u00a0%"
        parts.append(
            f'<line class="grid" x1="{_x(0.0):.1f}" x2="{_x(1.0):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick end" x="{LEFT - 7}" y="{y + 4:.1f}">{label}</text>'
            f'<text class="tick middle" x="{x:.1f}" y="{_y(0.0) + 17:.1f}">{label}</text>'
        )
    parts.append(
        f'<line class="line reference" x1="{_x(0.0):.1f}" y1="{_y(0.0):.1f}" x2="{_x(1.0):.1f}"'
        f' y2="{_y(1.0):.1f}"/>'
        f'<text class="tick middle" x="{_x(0.5):.1f}" y="{_y(0.0) + 34:.1f}">predicted;'
        " upwards: really matched</text>"
    )
    points = [(_x(value(one, "predicted")), _y(value(one, "matched"))) for one in filled]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline class="line s1" points="{drawn}"/>')
    for one, (x, y) in zip(filled, points, strict=True):
        radius = max(MIN_RADIUS, MAX_RADIUS * math.sqrt(min(max(value(one, "share"), 0.0), 1.0)))
        words = (
            f"{percent(value(one, 'predicted'))} predicted, {percent(value(one, 'matched'))}"
            f" matched, {percent(value(one, 'share'))} of pairs"
        )
        parts.append(
            f'<circle class="dot s1" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
            f"<title>{escape(words)}</title></circle>"
        )
    return "".join(parts) + "</svg>"


def _x(share: float) -> float:
    return LEFT + SIDE * min(max(share, 0.0), 1.0)


def _y(share: float) -> float:
    return TOP + SIDE * (1 - min(max(share, 0.0), 1.0))
