"""`tijepa doctor`: is a source of pairs fit to be trained on?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from tijepa.cli.options import source_arguments, source_options

__all__ = ["doctor"]


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
    """Examine SOURCE, a folder, file or pair store, and write a report.

    Every image is decoded and every caption looked at; duplicates are sought.
    Nothing is changed. Exit code 0: fit, 1: unfit, 2: SOURCE cannot be read.

    \b
    tijepa doctor photos
    tijepa doctor photos.lance --out report --json
    """
    import os

    from rich.console import Console

    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.readers import open_reader
    from tijepa.data.records import ReaderOptions
    from tijepa.data.validation import diagnose, print_report

    options = ReaderOptions(
        image_column=image_column, caption_column=caption_column, split_column=split_column
    )
    reporter = ConsoleReporter(Console(stderr=as_json))
    report = diagnose(
        open_reader(source, reader=reader, options=options),
        out if out is not None else _default_folder(source),
        source=source,
        arguments=source_arguments(reader, options),
        max_bad=max_bad,
        max_tokens=max_tokens,
        threads=threads if threads is not None else os.cpu_count() or 1,
        reporter=reporter,
    )
    if as_json:
        click.echo(json.dumps(report.facts, allow_nan=False))
    else:
        print_report(reporter.console, report)
    return 0 if report.fit else 1


def _default_folder(source: str) -> Path:
    name = Path(source).name or Path(source).resolve().name or "source"
    return Path(f"{name}.doctor")
