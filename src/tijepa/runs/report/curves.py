"""Curves over optimizer steps, from the lines of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tijepa.io.formatting import count, plain
from tijepa.io.page import render
from tijepa.runs.record import RunRecord, part, value
from tijepa.runs.report.charts import Reference, Series, line_chart

DIRECTIONS = (("image_to_text", "Image → text"), ("text_to_image", "Text → image"))
MODALITIES = ("image", "text")
Path = tuple[str, ...]


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
    known = [value(part(line, "retrieval"), "chance_at_1") for line in run.evals]
    chance = [one for one in known if not math.isnan(one)]
    reference = Reference("chance at 1", chance[-1]) if chance else None
    for key, title in DIRECTIONS:
        wanted = {f"R@{k}": ("retrieval", key, f"recall_at_{k}") for k in (1, 5, 10)}
        series = all_series(run.evals, wanted)
        if series:
            yield line_chart(f"{title}, held out", series, unit="percent", reference=reference)


def _collapse_curves(run: RunRecord) -> Iterable[Markup]:
    known = [value(part(part(line, "collapse"), "image"), "dimensions") for line in run.evals]
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
    found = dict.fromkeys(name for line in run.evals for name in part(line, "tasks"))
    return [name for name in found if any(_has_gap(line, name) for line in run.evals)]


def _has_gap(line: Mapping[str, Any], task: str) -> bool:
    return not math.isnan(value(part(part(line, "tasks"), task), "gap"))


def _keys(lines: Sequence[Mapping[str, Any]], start: str, end: str) -> dict[str, Path]:
    """Label and key of every metric named start…end, in order of first appearance."""
    found = dict.fromkeys(k for line in lines for k in line if k.startswith(start))
    return {plain(k[len(start) : len(k) - len(end)]): (k,) for k in found if k.endswith(end)}


def all_series(lines: Sequence[Mapping[str, Any]], wanted: Mapping[str, Path]) -> list[Series]:
    """Those of the wanted series that have any point."""
    series = [
        series_of(lines, name, path, dashed=name.startswith("text,") or name == "text")
        for name, path in wanted.items()
    ]
    return [one for one in series if one.steps]


def series_of(
    lines: Sequence[Mapping[str, Any]], name: str, path: Path, *, dashed: bool = False
) -> Series:
    """The numbers under nested keys; null, which is how JSON tells of no number, is NaN."""
    steps: list[float] = []
    values: list[float] = []
    for line in lines:
        at: Any = line
        for key in path[:-1]:
            at = part(at, key)
        if path[-1] in at and not isinstance(at[path[-1]], (str, list, dict)):
            steps.append(float(line["step"]))
            values.append(value(at, path[-1]))
    return Series(name, steps, values, dashed=dashed)
