"""The page of `tijepa compare`: a table, curves side by side, and the settings that differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from tijepa.io.formatting import DASH, count, number, percent, plain, points
from tijepa.io.page import Table, write_page
from tijepa.runs.compare import Compared, Comparison
from tijepa.runs.report.charts import line_chart
from tijepa.runs.report.curves import DIRECTIONS, series_of

_CURVES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    *(
        (f"{title}, recall at 1, held out", "evals", ("retrieval", key, "recall_at_1"), "percent")
        for key, title in DIRECTIONS
    ),
    ("Effective rank of images", "evals", ("collapse", "image", "effective_rank"), "number"),
    ("Effective rank of texts", "evals", ("collapse", "text", "effective_rank"), "number"),
    ("Loss", "train", ("loss",), "number"),
    ("Pairs per second", "train", ("pairs_per_second",), "number"),
)
_COLOURS = 8  # of the charts; further runs are dashed


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page to `path`; `CheckpointError` where that is not possible."""
    names = ", ".join(run.name for run in comparison.runs)
    settings = Table(
        "A dash: the setting has no effect in that run.",
        ("Setting", *(run.name for run in comparison.runs)),
        [
            [key, *(DASH if one is None else str(one) for one in values)]
            for key, values in comparison.differing.items()
        ],
    )
    write_page(
        path,
        "compare.html",
        title=f"{names} | tijepa compare",
        names=names,
        where=comparison.where,
        results=_results(comparison),
        notes=[f"{note[:1].upper()}{note[1:]}." for note in comparison.notes],
        charts=list(_curves(comparison)),
        settings=settings if comparison.differing else None,
    )


def _results(comparison: Comparison) -> Table:
    """Recalls first, then what they cost and how they were reached."""
    recalls = [
        [
            getattr(run.retrieval.directions[key], f"recall_at_{k}")
            for key, _ in DIRECTIONS
            for k in (1, 5, 10)
        ]
        for run in comparison.runs
    ]
    best = [_best(column) for column in zip(*recalls, strict=True)]
    return Table(
        f"Retrieval by the default form of the energy: {comparison.where}. Green: the best of its"
        " column.",
        (
            "Run", *("R@1", "R@5", "R@10") * 2, "over closed form", "verdict", "energy",
            "s per step", "pairs per s",
            "objective", "batch", "learning rate", "steps", "parameters",
        ),
        [
            [run.name, *(_or_dash(one, percent) for one in own), *_cells(run)]
            for run, own in zip(comparison.runs, recalls, strict=True)
        ],
        groups=(("", 1), *((title, 3) for _, title in DIRECTIONS), ("", 5), ("", 5)),
        best=[
            (row, 1 + k)
            for row, own in enumerate(recalls)
            for k, one in enumerate(own)
            if one == best[k]
        ],
    )  # fmt: skip


def _best(column: Sequence[float]) -> float:
    """The highest of different values; NaN, which no value equals, where nothing is best."""
    known = [one for one in column if not math.isnan(one)]
    return max(known) if len(set(known)) > 1 else math.nan


def _cells(run: Compared) -> list[str]:
    return [
        " / ".join(points(one) for one in run.added.values()) if run.added else DASH,
        run.verdict or DASH,
        plain(run.form) if run.form else DASH,
        _or_dash(run.seconds_per_step, number),
        _or_dash(run.pairs_per_second, number),
        run.objective,
        _or_dash(run.batch_size, count),
        _or_dash(run.lr, lambda lr: f"{lr:g}"),
        _or_dash(run.steps, count),
        _or_dash(run.parameters, count),
    ]


def _curves(comparison: Comparison) -> Iterable[Markup]:
    for title, kind, path, unit in _CURVES:
        series = [
            series_of(
                run.record.evals if kind == "evals" else run.record.train,
                run.name,
                path,
                dashed=k >= _COLOURS,
            )
            for k, run in enumerate(comparison.runs)
        ]
        if any(one.steps for one in series):
            yield line_chart(title, series, unit=unit, allow_log=title == "Loss")


def _or_dash(reading: int | float, show: Callable[[int | float], str]) -> str:
    return DASH if math.isnan(reading) else show(reading)
