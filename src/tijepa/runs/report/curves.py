"""A run over its steps: curves and the collapse guard's verdict; and its match probability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tijepa.inference.results import Health, Match, RunResults
from tijepa.io.formatting import count, percent, plain
from tijepa.io.page import Table, render
from tijepa.runs.record import RunRecord
from tijepa.runs.report.charts import (
    LEFT,
    TOP,
    Axis,
    Reference,
    Series,
    dot,
    figure,
    grid,
    line_chart,
    points_of,
    rule,
    svg,
)

DIRECTIONS = (("image_to_text", "Image → text"), ("text_to_image", "Text → image"))
MODALITIES = ("image", "text")
Path = tuple[str, ...]
Lines = Sequence[Mapping[str, Any]] | Sequence[RunResults]
_MISSING = object()


def curves(run: RunRecord) -> Markup:
    """Loss, energies, regularizers, rates; then held-out retrieval and collapse readings."""
    problem = run.problems.get("metrics.jsonl")
    charts = [*_train_curves(run.train), *_retrieval_curves(run), *_collapse_curves(run)]
    return render("curves.html", run=run, problem=problem, charts=charts)


def _train_curves(lines: Sequence[Mapping[str, Any]]) -> Iterable[Markup]:
    for title, wanted, log in (
        ("Loss", {"loss": ("loss",)}, True),
        ("Energy of the pooled embeddings, by task", _keys(lines, "energy/", "/pooled"), True),
        ("Energy of the tokens, by task", _keys(lines, "energy/", "/tokens"), True),
        ("Regularizers", _keys(lines, "regularizer/", ""), True),
        ("Learning rate", {"learning rate": ("lr",)}, False),
        ("Norm of the gradient before clipping", {"norm": ("grad_norm",)}, True),
    ):
        series = all_series(lines, wanted)
        if series:
            yield line_chart(title, series, allow_log=log)


def _retrieval_curves(run: RunRecord) -> Iterable[Markup]:
    known = [one.retrieval.chance_at_1 for one in run.evals if one.retrieval is not None]
    chance = [one for one in known if not math.isnan(one)]
    reference = Reference("chance at 1", chance[-1]) if chance else None
    for key, title in DIRECTIONS:
        wanted = {f"R@{k}": ("retrieval", key, f"recall_at_{k}") for k in (1, 5, 10)}
        series = all_series(run.evals, wanted)
        if series:
            yield line_chart(f"{title}, held out", series, unit="percent", reference=reference)


def _collapse_curves(run: RunRecord) -> Iterable[Markup]:
    known = [one.collapse.image.dimensions for one in run.evals if one.collapse is not None]
    sizes = [one for one in known if not math.isnan(one)]
    for title, wanted, note in (
        (
            "Effective rank",
            {m: ("collapse", m, "effective_rank") for m in MODALITIES},
            f"At most {count(sizes[-1])}, the dimensions." if sizes else "",
        ),
        (
            "Standard deviation per dimension",
            {
                f"{m}, {name}": ("collapse", m, key)
                for m in MODALITIES
                for name, key in (("mean", "mean_std"), ("smallest", "min_std"))
            },
            "",
        ),
        (
            "Energy of matched and shuffled pairs",
            {name: ("collapse", f"{name}_energy") for name in ("matched", "shuffled")},
            "The gap between them is what tells pairs apart.",
        ),
        (
            "Gap between the wrong text and the right one, by task",
            {plain(name): ("tasks", name, "gap") for name in _paired_tasks(run)},
            "A task without a gap predicts from one modality alone.",
        ),
        (
            "Gap between the wrong text and the right one in the context alone",
            {plain(name): ("tasks", name, "wrong_text_gap") for name in _paired_tasks(run)},
            "The target keeps the right text; without a gap the prediction does not use it.",
        ),
    ):
        series = all_series(run.evals, wanted)
        if series:
            yield line_chart(title, series, note=note)


def _paired_tasks(run: RunRecord) -> list[str]:
    """Tasks whose evaluations hold a gap, in order of first appearance."""
    known = (
        name
        for one in run.evals
        for name, energies in one.tasks.items()
        if not math.isnan(energies.get("gap", math.nan))
    )
    return list(dict.fromkeys(known))


def _keys(lines: Sequence[Mapping[str, Any]], start: str, end: str) -> dict[str, Path]:
    """Label and key of every metric named start…end, in order of first appearance."""
    found = dict.fromkeys(k for line in lines for k in line if k.startswith(start))
    return {plain(k[len(start) : len(k) - len(end)]): (k,) for k in found if k.endswith(end)}


def all_series(lines: Lines, wanted: Mapping[str, Path]) -> list[Series]:
    """Those of the wanted series that have any point."""
    series = [
        series_of(lines, name, path, dashed=name.startswith("text,") or name == "text")
        for name, path in wanted.items()
    ]
    return [one for one in series if one.steps]


def series_of(lines: Lines, name: str, path: Path, *, dashed: bool = False) -> Series:
    """The numbers under nested keys or attributes; what is no number is NaN."""
    steps: list[float] = []
    values: list[float] = []
    for line in lines:
        at = _within(line, path)
        if at is not _MISSING and not isinstance(at, (str, list, dict)):
            steps.append(float(_within(line, ("step",))))
            values.append(float(at) if isinstance(at, (int, float)) else math.nan)
    return Series(name, steps, values, dashed=dashed)


def _within(at: Any, path: Path) -> Any:
    """What lies under the keys of mappings and the attributes of results."""
    for key in path:
        at = at.get(key, _MISSING) if isinstance(at, Mapping) else getattr(at, key, _MISSING)
    return at


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
