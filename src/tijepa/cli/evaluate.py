"""What trained runs are worth: `tijepa evaluate`, `tijepa compare` and `tijepa explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tijepa.cli.options import (
    AT_LEAST_ONE,
    FILE,
    RUN,
    THERE,
    checkpoint_option,
    json_option,
    option,
    run_argument,
)


@click.command()
@run_argument
@option("--data", metavar="SOURCE", help="Pairs to measure on.  [default: the run's own]")
@option("--split", default="test", metavar="NAME", show_default=True, help="Which split.")
@checkpoint_option
@option(
    "--meaning", "parts", is_flag=True, help="On scenes: the pointing game and hard negatives too."
)
@option("--zero-shot", "column", metavar="COLUMN", help="Classify images by it as well.")
@option(
    "--prompts",
    type=THERE,
    metavar="FILE",
    help="YAML with the words for its values.  [default: templates]",
)
@option(
    "--evaluation", "evaluations", multiple=True, metavar="NAME", help="A registered one as well."
)
@json_option
def evaluate(run: Path, as_json: bool, **options: Any) -> None:
    """Measure retrieval and collapse of the run folder RUN.

    \b
    tijepa evaluate runs/demo
    tijepa evaluate runs/demo --split novel --json
    tijepa evaluate runs/demo --zero-shot colour
    """
    if options["prompts"] is not None and options["column"] is None:
        raise click.UsageError("--prompts has no effect without --zero-shot COLUMN.")
    from rich.console import Console

    from tijepa.cli.tables import meaning_lines, print_summary, zero_shot_table
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.runs.evaluation import evaluate_run

    reporter = ConsoleReporter(Console(stderr=as_json))
    results = evaluate_run(run, reporter=reporter, **options)
    if as_json:
        click.echo(json.dumps(results.to_json(), allow_nan=False))
        return
    asked = (options["data"], options["split"], options["checkpoint"])
    print_summary(reporter.console, results, run if asked == (None, "test", None) else None)
    for line in meaning_lines(results):
        click.echo(line)
    if results.zero_shot is not None:
        reporter.console.print(zero_shot_table(results.zero_shot))


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN, metavar="RUN RUN...")
@json_option
@option("--out", type=FILE, metavar="FILE.html", help="Write table and curves to one page, too.")
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
@click.argument("image", type=THERE)
@click.argument("text")
@option(
    "--out",
    type=FILE,
    default=Path("overlay.png"),
    show_default=True,
    help="The image under its energy map; a file there is replaced.",
)
@option(
    "--grid",
    type=AT_LEAST_ONE,
    default=8,
    show_default=True,
    help="Cells a side; the model reads grid x grid images.",
)
@checkpoint_option
def explain(
    run: Path, image: Path, text: str, out: Path, grid: int, checkpoint: str | None
) -> None:
    """Show which parts of IMAGE fit TEXT, by the model of RUN.

    Any words have a map: it says where they fit best, not whether they do.

    \b
    tijepa explain runs/demo image.png "a red circle"
    """
    from tijepa.inference.match_probability import BASE_RATE
    from tijepa.io.formatting import energy_name, percent, printable
    from tijepa.runs.report.images import explain_pair

    found = explain_pair(run, image, text, out, grid=grid, checkpoint=checkpoint)
    click.echo(
        f"lowest energy {found.lowest:.3f} in row {found.row + 1}, column {found.column + 1} of"
        f" {grid} x {grid} cells, counted from the top left"
    )
    click.echo(f"energy of the pair {found.pair:.3f} ({energy_name(found.form)})")
    if found.probability is not None:
        rate = percent(BASE_RATE)
        click.echo(f"probability of match {percent(found.probability)}, base rate {rate}")
    if found.flat:
        click.echo(
            f"flat: unrelated words have nearly the same map (correlation {found.sameness:.2f}),"
            " so it may show what stands out in the image rather than where the words are"
        )
    if found.words is not None:
        click.echo("word by word, in nats: the image speaks for a word below 0, against it above")
        for word, energy in zip(found.words.words, found.words.energy[0].tolist(), strict=True):
            click.secho(f"{energy:9.2f}  {printable(word)}", fg="red" if energy > 0 else "green")
    click.echo(f"overlay: {out}")
