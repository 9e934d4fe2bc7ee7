"""Curves over optimizer steps, from the lines of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tijepa.inference.results import RunResults
from tijepa.io.formatting import count, plain
from tijepa.io.page import render
from tijepa.runs.record import RunRecord
from tijepa.runs.report.charts import Reference, Series, line_chart

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
