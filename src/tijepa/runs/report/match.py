"""The section on the probability of match: its errors, and its reliability as an image."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from tijepa.inference.results import Match
from tijepa.io.formatting import percent
from tijepa.runs.record import RunRecord
from tijepa.runs.report.charts import LEFT, TOP, Axis, dot, figure, grid, points_of, rule, svg

SIDE = 236  # of the square of probabilities, in units of the viewBox
MIN_RADIUS, MAX_RADIUS = 2.2, 11.0
ENOUGH = 20  # pairs of equal weight that a bin needs for the line to go through it


def match(run: RunRecord) -> dict[str, Any] | str:
    """Reliability on matched and shuffled pairs that the fit did not see."""
    found = None if run.results is None else run.results.match_probability
    if found is None or not found.bins:
        return "This model has no probability of match: it is fitted on a validation split."
    return {
        "matched_pairs": found.matched_pairs,
        "shuffled_pairs": found.shuffled_pairs,
        "expected_calibration_error": found.expected_calibration_error,
        "brier": found.brier,
        "roc_auc": found.roc_auc,
        "fitted_on": found.fitted_on or "not recorded",
        "chart": _reliability(found),
    }


def _reliability(found: Match) -> Markup:
    """Each bin as a dot, predicted to the right and matched upwards, its area its share.

    A line goes through the bins of enough pairs; those of fewer are hollow.
    """
    x, y = Axis(0.0, 1.0, LEFT, LEFT + SIDE), Axis(0.0, 1.0, TOP + 16 + SIDE, TOP + 16)
    tenths = [(k / 10, f"{10 * k}\u00a0%") for k in range(0, 11, 2)]
    dots, through, told = [], [], []
    matched, shuffled = found.matched_pairs, found.shuffled_pairs
    for one in found.bins:
        share, up, right = one.share, one.matched, one.predicted
        if math.isnan(up + right):
            continue
        at = (x.at(min(max(right, 0.0), 1.0)), y.at(min(max(up, 0.0), 1.0)))
        # each kind of pair has half of the weight, so a matched one weighs more than a shuffled one
        known = matched > 0 and shuffled > 0
        enough = known and share >= ENOUGH * 0.5 * (up / matched + (1 - up) / shuffled)
        if enough:
            through.append(at)
        told.append(f"{percent(right)} predicted, {percent(up)} matched")
        radius = max(MIN_RADIUS, MAX_RADIUS * math.sqrt(min(max(share, 0.0), 1.0)))
        words = f"{told[-1]}, {percent(share)} of pairs"
        dots.append(dot(*at, radius, "s1" if enough else "few", words))
    parts = [
        grid(x, y, tenths, tenths, room=LEFT),
        rule(x.start, y.start, x.end, y.end),
        f'<text class="tick" x="4" y="{TOP}">share of pairs that are matched</text>',
        f'<text class="tick middle" x="{x.at(0.5)}" y="{y.start + 36}">probability that the model'
        " gives</text>",
        f'<polyline class="line s1" points="{points_of(through)}"/>',
    ]
    drawn = svg(
        x.end + LEFT, y.start + 40, f"Reliability: {'; '.join(told)}", "".join(parts + dots)
    )
    notes = (
        "Each dot is a tenth of the scale; its area is the share of pairs that fall there.",
        f"Those of fewer than {ENOUGH} pairs are hollow, and the line leaves them out.",
        "On the dashed line probabilities are true.",
    )
    return figure("Reliability", drawn, notes=notes, kind="square")
