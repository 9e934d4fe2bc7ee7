"""The end of a run in the terminal: one table, the verdict, the path of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tijepa.data.pairs import PairSource
from tijepa.data.scenes import Scenes
from tijepa.errors import DataError
from tijepa.evaluate.grounding import hard_negatives, pointing_on_scenes
from tijepa.inference.embedder import Embedder
from tijepa.inference.hub.provenance import shown_verdict, trouble_in_training
from tijepa.io.formatting import DASH, count, number, percent, plain, rank, times_chance
from tijepa.runs.record import part, value

__all__ = ["meaning", "meaning_lines", "print_summary", "summary_table"]

_SIGNS = {
    "healthy": ("healthy", "bold green"),
    "early": ("early", "bold"),
    "unjudged": ("not judged", "bold"),
    "degrading": ("DEGRADING", "bold red"),
    "collapsed": ("COLLAPSED", "bold red"),
}
DIRECTIONS = (("image_to_text", "image → text"), ("text_to_image", "text → image"))


def print_summary(console: Console, results: Mapping[str, Any], run_dir: Path | None) -> None:
    """Print the summary table and where the run and its report lie.

    `run_dir` is None for results that are not those of the run's report.
    """
    console.print(summary_table(results))
    if run_dir is None:
        return
    report = run_dir / "report.html"
    shown = report if report.exists() else run_dir
    console.print(Text(f"{'report' if report.exists() else 'run'}: {shown}"), soft_wrap=True)


def summary_table(results: Mapping[str, Any]) -> Table:
    """Retrieval both ways by form of energy, chance beside it; collapse readings and verdict below.

    `results` is the content of results.json: `retrieval`, `form`, `energies`, `novel`, `collapse`
    and `health`, the collapse guard's last verdict.
    A reading that is missing shows as a dash. Bold: the form that `retrieval` reports.
    """
    reported = part(results, "retrieval")
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=_title(reported, results.get("split")),
        title_justify="left",
        title_style="bold",
        caption=_readings(part(results, "collapse"), part(results, "health")),
        caption_justify="left",
        caption_style="",
    )
    table.add_column("energy")
    table.add_column("direction", no_wrap=True)
    for heading in ("R@1", "R@5", "R@10", "median", "R@1/chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    forms = {str(form): one for form, one in part(results, "energies").items()}
    chosen = str(results.get("form", ""))
    if chosen not in forms:
        chosen = next(
            (form for form, one in forms.items() if one == reported), chosen or "reported"
        )
        forms.setdefault(chosen, reported)
    for form, one in forms.items():
        _add_rows(table, plain(form), one, "bold" if form == chosen else "")
    novel = part(part(results, "novel"), "retrieval")
    if novel:
        _add_rows(table, f"{plain(chosen)}, novel", novel, "")
    chance = value(reported, "chance_at_1")
    shares = [_or_dash(min(k * chance, 1.0), percent) for k in (1, 5, 10)]
    table.add_row("chance", "both", *shares, "", "", style="dim")
    return table


def _add_rows(table: Table, name: str, one: Mapping[str, Any], style: str) -> None:
    """One row for each direction."""
    chance = value(one, "chance_at_1")
    for shown, (key, direction) in zip((name, ""), DIRECTIONS, strict=True):
        readings = part(one, key)
        recalls = [value(readings, f"recall_at_{k}") for k in (1, 5, 10)]
        times = DASH if math.isnan(recalls[0]) else times_chance(recalls[0], chance)
        table.add_row(
            Text(shown),
            direction,
            *[_or_dash(recall, percent) for recall in recalls],
            _or_dash(value(readings, "median_rank"), rank),
            times,
            style=style,
            end_section=not shown,
        )


def _title(reported: Mapping[str, Any], split: object) -> Text:
    images, texts = value(reported, "num_images"), value(reported, "num_texts")
    if math.isnan(images) or math.isnan(texts):
        return Text("Retrieval: not measured")
    where = f" of the {split} split" if isinstance(split, str) else ""
    return Text(f"Retrieval among {count(images)} images and {count(texts)} texts{where}")


def _readings(collapse: Mapping[str, Any], health: Mapping[str, Any]) -> Text:
    if not collapse:
        return Text("Collapse: not measured")
    lines = Text()
    for modality in ("image", "text"):
        one = part(collapse, modality)
        lines.append(
            f"{modality:<5} effective rank {_or_dash(value(one, 'effective_rank'), number)} of"
            f" {_or_dash(value(one, 'dimensions'), count)}, std per dimension"
            f" {_or_dash(value(one, 'mean_std'), number)}"
            f" (smallest {_or_dash(value(one, 'min_std'), number)})\n"
        )
    energies = [
        f"{name} {_or_dash(value(collapse, key), number)}"
        for name, key in (
            ("matched", "matched_energy"),
            ("shuffled", "shuffled_energy"),
            ("gap", "gap"),
        )
    ]
    lines.append(f"energy {', '.join(energies)}\n")
    verdict, reason = shown_verdict(collapse, health)
    sign, style = _SIGNS.get(verdict or "", _SIGNS["unjudged"])
    lines.append(sign, style=style)
    lines.append(f": {reason or 'no reason recorded'}")
    ended = trouble_in_training(collapse, health)
    if ended is not None:
        lines.append(f"\nwhile training, at its end {ended}: {health.get('reason')}")
    return lines


def _or_dash(reading: float, show: Callable[[int | float], str]) -> str:
    return DASH if math.isnan(reading) else show(reading)


# What a model knows of the parts of a scene: the pointing game and hard negatives, together.


POINTED = 100  # scenes of the pointing game, each of which takes 64 images to encode


def meaning(embedder: Embedder, source: PairSource, items: int) -> dict[str, Any]:
    """`pointing` on the first 100 of `items` scenes, `hard_negatives` on all of them.

    Raises `DataError` where `source` is not scenes, for only they have boxes and relations.
    """
    if not isinstance(source, Scenes):
        raise DataError(
            "--meaning needs the ground truth of scenes, and this source has none: leave it out,"
            " or give --data scenes"
        )
    return {
        "pointing": pointing_on_scenes(embedder, source, min(POINTED, items)).to_dict(),
        "hard_negatives": {
            kind: found.to_dict() for kind, found in hard_negatives(embedder, source, items).items()
        },
    }


def meaning_lines(results: Mapping[str, Any]) -> list[str]:
    """The same in words, one line each; none where `results` hold neither."""
    lines = []
    game = part(results, "pointing")
    if game:
        lines.append(
            f"pointing {percent(value(game, 'accuracy'))} (chance"
            f" {percent(value(game, 'chance'))}) of {int(value(game, 'queries'))} objects"
        )
    lines += [
        f"true caption below one with false {kind}: {percent(value(found, 'accuracy'))} of"
        f" {int(value(found, 'pairs'))} (chance 50 %)"
        for kind, found in part(results, "hard_negatives").items()
    ]
    return lines
