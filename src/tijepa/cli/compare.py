"""`tijepa compare`: runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tijepa.cli.options import RUN

__all__ = ["compare"]


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=RUN,
    metavar="RUN RUN...",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write table and curves to one page, too.",
)
def compare(runs: tuple[Path, ...], as_json: bool, out: Path | None) -> None:
    """Put run folders on the same data side by side: results, cost, settings.

    \b
    tijepa compare runs/ours runs/clip --out compare.html
    """
    from tijepa.cli.tables import print_comparison
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.runs.compare import compare_runs
    from tijepa.runs.report.comparison import write_comparison

    comparison = compare_runs(runs)
    if out is not None:
        write_comparison(comparison, out)
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), allow_nan=False))
        return
    reporter = ConsoleReporter()
    print_comparison(reporter.console, comparison)
    if out is not None:
        reporter.say(f"page: {out}")
