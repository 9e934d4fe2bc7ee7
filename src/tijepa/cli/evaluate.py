"""What trained runs are worth: `tijepa evaluate`, `tijepa compare` and `tijepa explain`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tijepa.cli.options import RUN, checkpoint_option, run_argument


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
@click.option(
    "--evaluation", "evaluations", multiple=True, metavar="NAME", help="A registered one as well."
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
    evaluations: tuple[str, ...],
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
        evaluations=evaluations,
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


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write table and curves to one page, too.",
)
def compare(runs: tuple[Path, ...], as_json: bool, out: Path | None) -> None:
    """Put runs on the same data side by side.

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


@click.command()
@run_argument
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("text")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("overlay.png"),
    show_default=True,
    help="The image under its energy map; a file there is replaced.",
)
@click.option(
    "--grid",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Cells a side; the model reads grid x grid images.",
)
@checkpoint_option
def explain(
    run: Path, image: Path, text: str, out: Path, grid: int, checkpoint: str | None
) -> None:
    """Show where in IMAGE the model of RUN sees TEXT.

    \b
    tijepa explain runs/demo image.png "a red circle"
    """
    from tijepa.io.formatting import energy_name
    from tijepa.runs.report.images import explain_pair

    found = explain_pair(run, image, text, out, grid=grid, checkpoint=checkpoint)
    click.echo(
        f"lowest energy {found.lowest:.3f} in row {found.row + 1}, column {found.column + 1} of"
        f" {grid} x {grid} cells, counted from the top left"
    )
    click.echo(f"energy of the pair {found.pair:.3f} ({energy_name(found.form)})")
    click.echo(f"overlay: {out}")
