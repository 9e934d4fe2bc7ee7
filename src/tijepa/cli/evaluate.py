"""`tijepa evaluate`: measure a trained run on held-out pairs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tijepa.cli.options import checkpoint_option, run_argument

__all__ = ["evaluate"]


@click.command()
@run_argument
@click.option("--data", metavar="SOURCE", help="Pairs to measure on.  [default: the run's own]")
@click.option("--split", default="test", metavar="NAME", show_default=True, help="Which split.")
@checkpoint_option
@click.option(
    "--meaning", is_flag=True, help="On scenes: the pointing game and hard negatives as well."
)
@click.option("--zero-shot", "column", metavar="COLUMN", help="Classify images by it as well.")
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML with the words for its values.  [default: templates]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def evaluate(
    run: Path,
    data: str | None,
    split: str,
    checkpoint: str | None,
    meaning: bool,
    column: str | None,
    prompts: Path | None,
    as_json: bool,
) -> None:
    """Measure retrieval and collapse of the run folder RUN.

    \b
    tijepa evaluate runs/demo
    tijepa evaluate runs/demo --split novel --json
    tijepa evaluate runs/demo --zero-shot colour
    """
    if prompts is not None and column is None:
        raise click.UsageError("--prompts has no effect without --zero-shot COLUMN.")
    from rich.console import Console

    from tijepa.cli.tables import meaning_lines, print_summary, zero_shot_table
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.runs.evaluation import evaluate_run

    reporter = ConsoleReporter(Console(stderr=as_json))
    results = evaluate_run(
        run,
        data=data,
        split=split,
        checkpoint=checkpoint,
        parts=meaning,
        column=column,
        prompts=prompts,
        reporter=reporter,
    )
    if as_json:
        click.echo(json.dumps(results.to_json(), allow_nan=False))
    else:
        reported = (data, split, checkpoint) == (None, "test", None)
        print_summary(reporter.console, results, run if reported else None)
        for line in meaning_lines(results):
            click.echo(line)
        if results.zero_shot is not None:
            reporter.console.print(zero_shot_table(results.zero_shot))
