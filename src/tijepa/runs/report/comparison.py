"""The page of `tijepa compare`: a table, curves side by side, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tijepa.io.formatting import DASH, count, escape, number, percent, plain
from tijepa.runs.compare import Compared, Comparison
from tijepa.runs.record import part, value
from tijepa.runs.report.charts import Series, line_chart
from tijepa.runs.report.shell import DIRECTIONS, paragraph, table, unknown, whole_page, write_page

__all__ = ["write_comparison"]

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
    header = (
        paragraph("Runs on the same data", "kicker")
        + f"<h1>{escape(names)}</h1>"
        + paragraph(f"Measured on: {comparison.where}.", "lead")
    )
    sections = (
        ("results", "Results", _results(comparison)),
        ("curves", "Curves", _curves(comparison)),
        ("settings", "Settings that differ", _settings(comparison)),
    )
    write_page(path, whole_page(f"{names} | tijepa compare", header, sections))


def _results(comparison: Comparison) -> str:
    groups = "".join(f'<th scope="colgroup" colspan="3">{title}</th>' for _, title in DIRECTIONS)
    first = ("Run", "objective", "batch", "learning rate", "steps", "parameters")
    last = ("energy", "verdict", "s per step", "pairs per s")
    tall = "".join(f'<th scope="col" rowspan="2" class="words">{name}</th>' for name in first)
    end = "".join(f'<th scope="col" rowspan="2" class="split">{name}</th>' for name in last)
    recalls = "".join(f'<th scope="col">R@{k}</th>' for _ in DIRECTIONS for k in (1, 5, 10))
    rows = "".join(map(_row, comparison.runs))
    notes = "".join(
        paragraph(f"{note[:1].upper()}{note[1:]}.", "note") for note in comparison.notes
    )
    caption = f"Retrieval by the default form of the energy: {comparison.where}."
    return table(caption, f"<tr>{tall}{groups}{end}</tr><tr>{recalls}</tr>", rows) + notes


def _row(run: Compared) -> str:
    recalls = [
        value(part(run.retrieval, key), f"recall_at_{k}")
        for key, _ in DIRECTIONS
        for k in (1, 5, 10)
    ]
    cells = [
        run.objective,
        _or_dash(run.batch_size, count),
        _or_dash(run.lr, lambda lr: f"{lr:g}"),
        _or_dash(run.steps, count),
        _or_dash(run.parameters, count),
        *(_or_dash(recall, percent) for recall in recalls),
        plain(run.form) if run.form else DASH,
        run.verdict or DASH,
        _or_dash(run.seconds_per_step, number),
        _or_dash(run.pairs_per_second, number),
    ]
    return (
        f'<tr><th scope="row">{escape(run.name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _settings(comparison: Comparison) -> str:
    if not comparison.differing:
        return unknown("None, beside those of the table above.")
    head = '<tr><th scope="col" class="words">Setting</th>' + "".join(
        f'<th scope="col">{escape(run.name)}</th>' for run in comparison.runs
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th>'
        + "".join(f"<td>{escape(DASH if one is None else one)}</td>" for one in values)
        + "</tr>"
        for key, values in comparison.differing.items()
    )
    return table("A dash: the setting has no effect in that run.", f"{head}</tr>", rows)


def _curves(comparison: Comparison) -> str:
    about = paragraph(
        "Over optimizer steps. A step of a larger batch sees more pairs, and losses of different"
        " objectives have nothing to do with one another."
    )
    charts = []
    for title, kind, path, unit in _CURVES:
        series = [_series(k, run, kind, path) for k, run in enumerate(comparison.runs)]
        drawn = [one for one in series if one.steps]
        if drawn:
            bounds = (0.0, 1.0) if unit == "percent" else None
            charts.append(
                line_chart(title, series, unit=unit, bounds=bounds, allow_log=title == "Loss")
            )
    return about + f'<div class="charts">{"".join(charts)}</div>'


def _series(number_: int, run: Compared, kind: str, path: tuple[str, ...]) -> Series:
    lines = run.record.evals if kind == "evals" else run.record.train
    points = [(float(line["step"]), value(_within(line, path[:-1]), path[-1])) for line in lines]
    return Series(
        run.name,
        [step for step, _ in points],
        [reading for _, reading in points],
        dashed=number_ >= _COLOURS,
    )


def _within(line: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for key in path:
        line = part(line, key)
    return line


def _or_dash(reading: float, show: Any) -> str:
    return DASH if reading != reading else str(show(reading))
