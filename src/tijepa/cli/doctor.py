"""`tijepa doctor`: is a source of pairs fit to be trained on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tijepa.cli.options import source_options

if TYPE_CHECKING:
    from rich.console import Console

    from tijepa.data.validation import Report

_SHOWN = 8  # kinds of findings


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the report goes.  [default: NAME.doctor]",
)
@click.option("--json", "as_json", is_flag=True, help="Print doctor.json, nothing else.")
@source_options
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of broken items above which a source is unfit.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    metavar="N",
    help="Count the captions that a tokenizer would cut to N tokens.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    metavar="N",
    help="Threads that decode; 0: none beside the main one.  [default: cores]",
)
def doctor(
    source: str,
    out: Path | None,
    as_json: bool,
    reader: str | None,
    image_column: str | None,
    caption_column: str | None,
    split_column: str | None,
    max_bad: float,
    max_tokens: int | None,
    threads: int | None,
) -> int:
    """Examine the pairs of SOURCE and write a report.

    Every image is decoded, every caption looked at, duplicates are sought;
    nothing is changed. Exit code 0: fit, 1: unfit, 2: SOURCE cannot be read.

    \b
    tijepa doctor photos
    tijepa doctor photos.lance --out report --json
    """
    from rich.console import Console

    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.validation.diagnosis import doctor as examine

    reporter = ConsoleReporter(Console(stderr=as_json))
    report = examine(
        source,
        out,
        reader=reader,
        image_column=image_column,
        caption_column=caption_column,
        split_column=split_column,
        max_bad=max_bad,
        max_tokens=max_tokens,
        threads=threads,
        reporter=reporter,
    )
    if as_json:
        click.echo(json.dumps(report.facts, allow_nan=False))
    else:
        print_report(reporter.console, report)
    return 0 if report.fit else 1


def print_report(console: Console, report: Report) -> None:
    """Counts, the worst findings, where the files lie, and what to run next."""
    from rich.markup import escape

    from tijepa.data.records import mistyped_split
    from tijepa.io.formatting import plural

    facts, counts = report.facts, report.facts["counts"]
    _say(console, facts["description"])
    if report.fit:
        _say(console, "[bold green]fit[/]", plain=False)
    else:
        reasons = escape("; ".join(facts["reasons"]))
        _say(console, f"[bold red]unfit[/]: {reasons}", plain=False)
    _say(
        console,
        f"{plural(counts['items'], 'item', 'items')}: {counts['pairs']:,} pairs, "
        f"{counts['images_only']:,} images alone, {counts['texts_only']:,} texts alone, "
        f"{counts['rejected']:,} skipped; {counts['captions_dropped']:,} captions dropped",
    )
    splits = facts["splits"]
    if len(splits) > 1:
        first = ", ".join(f"{name} {n['items']:,}" for name, n in list(splits.items())[:6])
        _say(console, f"splits: {first}{', …' if len(splits) > 6 else ''}")
    for name, numbers in splits.items():
        meant = mistyped_split(name)
        if meant is not None:
            items = plural(numbers["items"], "item", "items")
            _say(console, f"  split '{name}' of {items}: did you mean '{meant}'?")
    for line in _worst(report):
        _say(console, f"  {line}")
    for step in facts["commands"]:
        _say(console, f"{step['why']}:\n  {step['command']}")
    _say(console, f"report: {report.folder / 'doctor.html'}")


def _worst(report: Report) -> list[str]:
    """What skips first, then copies across splits, then the rest by number."""
    from tijepa.data.validation.report import DUPLICATES, kind_of
    from tijepa.io.formatting import plural

    lines = []
    for slug, entry in report.facts["findings"].items():
        what = "skipped" if entry["rejected"] else "noted"
        if slug.startswith("caption-"):
            what = "caption dropped"
        example = entry["examples"][0]
        text = (
            f"{entry['items']:,}: {kind_of(slug).title.lower()} ({what};"
            f" {example['item']}: {example['reason']})"
        )
        lines.append(((0 if entry["rejected"] else 3), -entry["items"], text))
    for slug in DUPLICATES:
        entry = report.facts["duplicates"][slug]
        if entry["groups"]:
            rank = 1 if slug.endswith("two-splits") else 2
            group = " = ".join(entry["listed"][0][:2])
            text = (
                f"{plural(entry['groups'], 'group', 'groups')} of"
                f" {kind_of(slug).title.lower()} ({entry['items']:,} items; {group})"
            )
            lines.append((rank, -entry["groups"], text))
    lines.sort()
    shown = [text for _, _, text in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"and {plural(len(lines) - _SHOWN, 'more kind', 'more kinds')}")
    return shown


def _say(console: Console, text: str, plain: bool = True) -> None:
    """One line as it is; a terminal's control characters in names are shown, not obeyed."""
    from tijepa.io.formatting import printable

    console.print(printable(text), highlight=False, markup=not plain, soft_wrap=True)
