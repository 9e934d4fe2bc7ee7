"""`tijepa doctor`: is a source of pairs fit to be trained on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tijepa.cli.options import PATH, json_option, option, source_options
from tijepa.io.formatting import plural, printable

if TYPE_CHECKING:
    from rich.console import Console

    from tijepa.data.validation import Report

_SHOWN = 8  # kinds of findings


@click.command()
@click.argument("source", metavar="SOURCE")
@option("--out", type=PATH, metavar="FOLDER", help="For the report.  [default: NAME.doctor]")
@json_option
@source_options
@option(
    "--max-tokens",
    type=click.IntRange(min=2),
    metavar="N",
    help="Count the captions that a tokenizer would cut to N tokens.",
)
def doctor(source: str, out: Path | None, as_json: bool, **options: Any) -> int:
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
    report = examine(source, out, reporter=reporter, **options)
    if as_json:
        click.echo(json.dumps(report.facts, allow_nan=False))
    else:
        print_report(reporter.console, report)
    return 0 if report.fit else 1


def print_report(console: Console, report: Report) -> None:
    """Counts, the worst findings, where the files lie, and what to run next."""
    from rich.text import Text

    from tijepa.cli.terminal import print_line
    from tijepa.data.records import mistyped_split

    facts, counts = report.facts, report.facts["counts"]
    verdict = Text("fit", "bold green") if report.fit else Text("unfit", "bold red")
    if not report.fit:
        verdict.append(Text(printable(": " + "; ".join(facts["reasons"]))))
    lines: list[str | Text] = [
        facts["description"],
        verdict,
        f"{plural(counts['items'], 'item', 'items')}: {counts['pairs']:,} pairs, "
        f"{counts['images_only']:,} images without caption, {counts['texts_only']:,} texts without "
        f"image, {counts['rejected']:,} skipped; {counts['captions_dropped']:,} captions dropped",
    ]
    splits = facts["splits"]
    if len(splits) > 1:
        first = ", ".join(f"{name} {n['items']:,}" for name, n in list(splits.items())[:6])
        lines.append(f"splits: {first}{', …' if len(splits) > 6 else ''}")
    for name, numbers in splits.items():
        meant = mistyped_split(name)
        if meant is not None:
            items = plural(numbers["items"], "item", "items")
            lines.append(f"  split '{name}' of {items}: did you mean '{meant}'?")
    lines += [f"  {line}" for line in _worst(report)]
    lines += [f"{step['why']}:\n  {step['command']}" for step in facts["commands"]]
    lines.append(f"report: {report.folder / 'doctor.html'}")
    for line in lines:
        print_line(console, line)


def _worst(report: Report) -> list[str]:
    """What skips first, then copies across splits, then the rest by number."""
    from tijepa.data.validation.report import DUPLICATES, kind_of

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
