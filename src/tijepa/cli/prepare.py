"""`tijepa prepare`: any source into a pair store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tijepa.cli.options import AT_LEAST_ONE, option, source_options, stopping

if TYPE_CHECKING:
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.store.prepare import Prepared


@click.command()
@click.argument("source", metavar="SOURCE")
@option("--out", required=True, metavar="NAME.lance", help="The store: a path or a URI.")
@option("--append", is_flag=True, help="Add to --out what it lacks, as a new version.")
@option("--first", type=AT_LEAST_ONE, metavar="N", help="Only N items of each split, to try.")
@option(
    "--duplicates",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="Equal items, and images in two splits.",
)
@source_options
def prepare(source: str, out: str, append: bool, **options: Any) -> None:
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
        done = prepare_store(source, out, append=append, reporter=reporter, **options)
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
