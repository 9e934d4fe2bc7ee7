"""`tijepa evaluate`: measure a trained run on held-out pairs."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["check_checkpoint", "evaluate"]


def check_checkpoint(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """The value of `--checkpoint`; a usage error where it can name none."""
    if value is not None and value not in ("best", "last") and not value.isdecimal():
        raise click.BadParameter(f"'{value}' is neither best, last nor the number of a step.")
    return value


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", metavar="SOURCE", help="Pairs to measure on.  [default: the run's own]")
@click.option("--split", default="test", metavar="NAME", show_default=True, help="Which split.")
@click.option(
    "--checkpoint",
    callback=check_checkpoint,
    metavar="best|last|STEP",
    help="Weights to use.  [default: the final model]",
)
@click.option(
    "--meaning", is_flag=True, help="On scenes: the pointing game and hard negatives as well."
)
@click.option("--zero-shot", "column", metavar="COLUMN", help="Classify pictures by it as well.")
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

    from tijepa.evaluate.meaning import meaning_lines
    from tijepa.evaluate.run import evaluate_run
    from tijepa.evaluate.summary import print_summary
    from tijepa.evaluate.zero_shot_run import zero_shot_table

    console = Console(stderr=as_json)
    results = evaluate_run(
        run,
        data=data,
        split=split,
        checkpoint=checkpoint,
        parts=meaning,
        column=column,
        prompts=prompts,
        console=console,
    )
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
    else:
        print_summary(console, results, run)
        for line in meaning_lines(results):
            click.echo(line)
        if column is not None:
            console.print(zero_shot_table(results["zero_shot"]))
