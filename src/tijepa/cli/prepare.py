"""`tijepa prepare`: any source into a pair store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from tijepa.cli.options import source_options, stopping

if TYPE_CHECKING:
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.store.prepare import Prepared


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--out", required=True, metavar="NAME.lance", help="The store: a path or a URI.")
@click.option("--append", is_flag=True, help="Add to --out what it lacks, as a new version.")
@source_options
@click.option(
    "--first", type=click.IntRange(min=1), metavar="N", help="Only N items of each split, to try."
)
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of broken items above which nothing is kept.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="Equal items, and images in two splits.",
)
@click.option("--threads", type=click.IntRange(min=0), metavar="N", help="[default: cores]")
def prepare(
    source: str,
    out: str,
    append: bool,
    reader: str | None,
    image_column: str | None,
    caption_column: str | None,
    split_column: str | None,
    first: int | None,
    max_bad: float,
    duplicates: Literal["keep", "skip"],
    threads: int | None,
) -> None:
    """Check the pairs of SOURCE and write them as a store.

    \b
    tijepa prepare photos --out photos.lance
    tijepa prepare photos --out few.lance --first 500
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.store.prepare import prepare as prepare_store

    reporter = ConsoleReporter()
    kept = f"{out} is what it was" if append else "nothing was kept"
    with stopping(f"{kept}; the same command starts again"):
        done = prepare_store(
            source,
            out,
            append=append,
            reader=reader,
            image_column=image_column,
            caption_column=caption_column,
            split_column=split_column,
            first=first,
            max_bad=max_bad,
            duplicates=duplicates,
            threads=threads,
            reporter=reporter,
        )
    _conclude(reporter, done, append)


def _conclude(reporter: ConsoleReporter, done: Prepared, append: bool) -> None:
    """What was written, the doctor's report on it, and how to go on."""
    from dataclasses import replace

    from tijepa.cli.doctor import print_report
    from tijepa.data.validation import train_command
    from tijepa.io.formatting import plural

    train = {"why": "To train on it", "command": train_command(done.uri)}
    count = sum(done.added.values())
    what = f"{done.uri} version {done.version}"
    if not append:
        written = f"written   {what}: {count:,} items"
    elif count:
        written = f"added     {what}: {count:,} items; {done.skipped:,} stood there already"
    elif not done.rejected:
        reporter.say(f"nothing added: all {done.skipped:,} items stand in {what} already")
        return
    else:
        written = (
            f"nothing added to {what}: {done.rejected:,} items skipped, {done.skipped:,} stood"
            " there already"
        )
    for name, values in done.misfits.items():
        reporter.say(
            f"column    '{name}': {plural(values, 'value', 'values')} kept, but not searchable: the"
            " store has no such column, or one of another type"
        )
    cleaner = [c for c in done.report.facts["commands"] if "--duplicates" in c["command"]]
    facts = {**done.report.facts, "description": written, "commands": [train, *cleaner]}
    print_report(reporter.console, replace(done.report, facts=facts))
