"""Results in the terminal: every table has one look, a title above and a thin rule below the head.

A reading that is missing shows as a dash, and a collapse in bold red wherever it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tijepa.inference.results import Retrieval, RunResults, ZeroShot
from tijepa.io.formatting import (
    DASH,
    count,
    number,
    percent,
    plain,
    points,
    printable,
    rank,
    score_name,
    times_chance,
    values_in_words,
)

if TYPE_CHECKING:
    from tijepa.runs.compare import Comparison
    from tijepa.search.answer import Answer
    from tijepa.search.index import Index
    from tijepa.training.sweep import Outcome

_SIGNS = {
    "healthy": ("healthy", "bold green"),
    "early": ("early", "bold"),
    "unjudged": ("not judged", "bold"),
    "degrading": ("DEGRADING", "bold red"),
    "collapsed": ("COLLAPSED", "bold red"),
}
_DIRECTIONS = (("image_to_text", "image → text", "i→t"), ("text_to_image", "text → image", "t→i"))
_MOST_LABELS = 40  # rows of the zero-shot table
_MOST_CLASSES = 12  # of a confusion matrix


def verdict_style(verdict: str | None) -> str:
    """The style in which a verdict is written among others; none for what is well."""
    return "bold red" if verdict in ("degrading", "collapsed") else ""


def _text(told: object, **style: Any) -> Text:
    """Text of data or of the user: neither markup nor control characters in it are obeyed."""
    return Text(printable(told), **style)


def _table(title: str | Text | None, caption: str | Text | None = None) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=_text(title) if isinstance(title, str) else title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        caption_style="",
    )


def _figures(table: Table, *headings: str) -> None:
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def or_dash(reading: int | float | None, show: Callable[[Any], str]) -> str:
    """`reading` as `show` writes it; a dash for one that is missing."""
    return DASH if reading is None or math.isnan(reading) else show(reading)


# Of one run: retrieval, collapse, the verdict, the path of the report.


def print_summary(console: Console, results: RunResults, run_dir: Path | None) -> None:
    """Print the summary table and where the run and its report lie.

    `run_dir` is None for results that are not those of the run's report.
    """
    console.print(summary_table(results))
    if run_dir is None:
        return
    report = run_dir / "report.html"
    shown = report if report.exists() else run_dir
    console.print(_text(f"{'report' if report.exists() else 'run'}: {shown}"), soft_wrap=True)


def summary_table(results: RunResults) -> Table:
    """Retrieval both ways by form of energy, chance beside it; collapse readings and verdict below.

    Bold: the form that `retrieval` reports.
    """
    reported = results.retrieval or Retrieval()
    table = _table(_title(reported, results.split), _readings(results))
    table.add_column("energy")
    table.add_column("direction", no_wrap=True)
    _figures(table, "R@1", "R@5", "R@10", "median", "R@1/chance")
    forms, chosen = results.forms
    for form, one in forms.items():
        _add_rows(table, plain(form), one, "bold" if form == chosen else "")
    if results.closed_form is not None:
        _add_rows(table, "closed form", results.closed_form, "")
    if results.own_cosine is not None:
        _add_rows(table, "own cosine", results.own_cosine, "")
    if results.novel is not None:
        _add_rows(table, f"{plain(chosen)}, novel", results.novel.retrieval, "")
    shares = [or_dash(min(k * reported.chance_at_1, 1.0), percent) for k in (1, 5, 10)]
    table.add_row("chance", "both", *shares, "", "", style="dim")
    return table


def _add_rows(table: Table, name: str, one: Retrieval, style: str) -> None:
    """One row for each direction."""
    for shown, (key, direction, _) in zip((name, ""), _DIRECTIONS, strict=True):
        found = one.directions[key]
        first = found.recall_at_1
        table.add_row(
            _text(shown),
            direction,
            *[or_dash(recall, percent) for recall in found.recalls],
            or_dash(found.median_rank, rank),
            DASH if math.isnan(first) else times_chance(first, one.chance_at_1),
            style=style,
            end_section=not shown,
        )


def _title(reported: Retrieval, split: str | None) -> str:
    images, texts = reported.num_images, reported.num_texts
    if math.isnan(images) or math.isnan(texts):
        return "Retrieval: not measured"
    where = "" if split is None else f" of the {split} split"
    return f"Retrieval among {count(images)} images and {count(texts)} texts{where}"


def _readings(results: RunResults) -> Text:
    from tijepa.evaluate.forgetting import forgetting_in_words
    from tijepa.evaluate.retrieval import intervals_in_words

    collapse, lines = results.collapse, Text()
    doubt = None if results.retrieval is None else intervals_in_words(results.retrieval)
    forgotten = forgetting_in_words(results.forgetting)
    for said in (doubt, results.added_in_words, forgotten):
        lines.append("" if said is None else f"{said}\n")
    if collapse is None:
        return lines.append("Collapse: not measured")
    for modality, one in collapse.modalities.items():
        lines.append(
            f"{modality:<5} effective rank {or_dash(one.effective_rank, number)} of"
            f" {or_dash(one.dimensions, count)}, std per dimension"
            f" {or_dash(one.mean_std, number)} (smallest {or_dash(one.min_std, number)})\n"
        )
    energies = [
        f"{name} {or_dash(energy, number)}"
        for name, energy in (
            ("matched", collapse.matched_energy),
            ("shuffled", collapse.shuffled_energy),
            ("gap", collapse.gap),
        )
    ]
    lines.append(f"energy {', '.join(energies)}\n")
    verdict, reason = results.judgement
    sign, style = _SIGNS.get(verdict or "", _SIGNS["unjudged"])
    lines.append(sign, style=style)
    lines.append(f": {reason or 'no reason recorded'}")
    if results.trouble is not None and results.health is not None:
        lines.append(f"\nwhile training, at its end {results.trouble}: {results.health.reason}")
    return lines


def meaning_lines(results: RunResults) -> list[str]:
    """The pointing game and hard negatives in words; none where `results` hold neither."""
    game, lines = results.pointing, []
    if game is not None:
        lines.append(
            f"pointing {percent(game.accuracy)} (chance {percent(game.chance)}) of"
            f" {count(game.queries)} objects"
        )
    lines += [
        f"true caption below one with false {kind}: {percent(found.accuracy)} of"
        f" {count(found.pairs)} (chance 50 %)"
        for kind, found in results.hard_negatives.items()
    ]
    return lines


def zero_shot_table(found: ZeroShot) -> Table:
    """A row per label, the most frequent first; the total, and chance, in the caption."""
    table = _table(
        f"Zero-shot {found.column}: {count(found.items)} images, {len(found.labels)} labels",
        _zero_shot_total(found),
    )
    table.add_column("label")
    _figures(table, "images", "top 1")
    table.add_column("most often taken for")
    for one in sorted(found.labels, key=lambda one: -one.items)[:_MOST_LABELS]:
        right = or_dash(one.top_1, percent)
        table.add_row(_text(one.label), count(one.items), right, _text(one.taken_for or ""))
    return table


def _zero_shot_total(found: ZeroShot) -> str:
    parts = [f"top 1 {percent(found.top_1)}"]
    if found.top_5 is not None:
        parts.append(f"top 5 {percent(found.top_5)}")
    parts.append(f"mean over labels {percent(found.mean_per_label)}")
    left_out = len(found.labels) - _MOST_LABELS
    more = f"; {left_out} labels more with --json" if left_out > 0 else ""
    return (
        f"{', '.join(parts)} (chance {percent(found.chance)}, always the most frequent label"
        f" {percent(found.majority)}){more}"
    )


# Of several runs.


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Results, then the settings that differ, with a run a column, as both grow only one way."""
    runs = comparison.runs
    table = _by_run(
        f"Retrieval by the default form of the energy: {comparison.where}", comparison, fold=False
    )
    table.add_row("objective", *(run.objective for run in runs))
    for name, field, show in (
        ("batch", "batch_size", count),
        ("learning rate", "lr", "{:g}".format),
        ("steps", "steps", count),
        ("parameters", "parameters", count),
    ):
        table.add_row(name, *(or_dash(getattr(run, field), show) for run in runs))
    table.add_section()
    for key, _, arrow in _DIRECTIONS:
        for k in (1, 5, 10):
            found = [getattr(run.retrieval.directions[key], f"recall_at_{k}") for run in runs]
            best = max((one for one in found if not math.isnan(one)), default=math.nan)
            cells = [
                Text(or_dash(one, percent), style="bold" if one == best else "") for one in found
            ]
            table.add_row(f"{arrow} R@{k}", *cells)
    if any(run.added for run in runs):
        table.add_row("over closed form", *(_over_closed_form(run.added) for run in runs))
    table.add_row("energy", *(plain(run.form) if run.form else DASH for run in runs))
    table.add_row(
        "collapse", *(Text(run.verdict or DASH, style=verdict_style(run.verdict)) for run in runs)
    )
    table.add_section()
    table.add_row("s per step", *(or_dash(run.seconds_per_step, number) for run in runs))
    table.add_row("pairs per s", *(or_dash(run.pairs_per_second, number) for run in runs))
    console.print(table)
    if comparison.differing:
        settings = _by_run("Settings that differ", comparison, fold=True)
        for key, values in comparison.differing.items():
            settings.add_row(_text(key), *(_text(DASH if one is None else one) for one in values))
        console.print(settings)
    for note in comparison.notes:
        console.print(_text(f"note: {note}"), soft_wrap=True)


def _over_closed_form(added: Mapping[str, float] | None) -> str:
    """Points of recall at 1, image → text and text → image."""
    return " / ".join(points(one) for one in added.values()) if added else DASH


def _by_run(title: str, comparison: Comparison, *, fold: bool) -> Table:
    table = _table(title)
    table.add_column("", no_wrap=True)
    for run in comparison.runs:
        table.add_column(
            _text(run.name, overflow="fold"),
            justify="right",
            overflow="fold" if fold else "ellipsis",
        )
    return table


def print_sweep(console: Console, outcomes: Sequence[Outcome]) -> None:
    """One row a run, by validation recall at 1 (mean of both directions, best healthy step)."""
    table = _table("Runs by validation recall at 1, mean of both directions")
    keys = list(outcomes[0].cell.values) if outcomes else []
    for key in keys or ["run"]:
        table.add_column(key.rpartition(".")[2], justify="right", overflow="fold")
    _figures(table, "validation", "i→t R@1", "t→i R@1", "collapse", "status")
    for one in sorted(
        outcomes, key=lambda one: -1.0 if one.validation is None else one.validation, reverse=True
    ):
        retrieval = one.results.retrieval or Retrieval()
        verdict = None if one.results.collapse is None else one.results.collapse.verdict
        table.add_row(
            *([_text(one.cell.values[key]) for key in keys] or [_text(one.cell.name)]),
            or_dash(one.validation, percent),
            *(
                or_dash(direction.recall_at_1, percent)
                for direction in retrieval.directions.values()
            ),
            Text(str(verdict or DASH), style=verdict_style(verdict)),
            one.status,
        )
    console.print(table)


# Of a classifier or probe.


def print_scores(console: Console, results: dict[str, Any]) -> None:
    """What was used, figures with their intervals, and the confusion matrix of a few classes."""
    left_out = "".join(f", {count(n)} left out ({why})" for why, n in results["left_out"].items())
    told = (
        f"{count(results['items'])} items of {results['data']}, split {results['split']}, with a"
        f" label in '{results['label']}'; {count(results['unlabelled'])} without{left_out}"
    )
    console.print(_text(told), highlight=False, soft_wrap=True)
    for key, title in (("cross_validation", None), ("test", "split test")):
        if key in results:
            found = results[key]
            _print_part(console, found, title or f"{found['folds']} folds", results["classes"])


def _print_part(console: Console, found: dict[str, Any], title: str, classes: list[str]) -> None:
    table = _table(f"{title}, {count(found['items'])} items")
    table.add_column("figure")
    _figures(table, "value", "95 % interval")
    for key, name in (
        ("accuracy", "accuracy"),
        ("f1_weighted", "F1, weighted"),
        ("f1_macro", "F1, macro"),
    ):
        one = found[key]
        table.add_row(
            name, percent(one["value"]), f"{percent(one['low'])} to {percent(one['high'])}"
        )
    table.add_row("accuracy of the most frequent class", percent(found["majority"]), "")
    console.print(table)
    if len(classes) > _MOST_CLASSES:
        return
    matrix = _table("true class by row, predicted by column")
    matrix.add_column("")
    for name in classes:
        matrix.add_column(_text(name), justify="right")
    for name, row in zip(classes, found["confusion"], strict=True):
        matrix.add_row(_text(name), *(count(cell) for cell in row))
    console.print(matrix)


# Of a search.


def print_answer(
    console: Console, answer: Answer, index: Index, columns: Sequence[str] = ()
) -> None:
    """A row for each hit, best first, with what `columns` say of it; whether any fits."""
    if answer.nothing:
        console.print(Text(answer.nothing[0].upper() + answer.nothing[1:]))
    if not answer.hits:
        return
    rate = answer.base_rate
    told = (
        ""
        if rate is None
        else f"match: probability that the two belong together; base rate {percent(rate)}"
    )
    table = _table(None, told)
    unit = score_name("cosine" if answer.alike else index.form)
    _figures(table, "", f"score ({unit})", "match")
    table.add_column("item and caption", overflow="fold")
    for place, hit in enumerate(answer.hits, start=1):
        lines = [hit.id, hit.caption or DASH]  # below each other: ids are long
        if columns:
            lines.append(values_in_words(hit.columns, columns))
        what = _text("\n".join(lines))
        table.add_row(str(place), number(hit.score), or_dash(hit.probability, percent), what)
    console.print(table)
