"""`tijepa explain`: where in an image the model sees a text."""

from __future__ import annotations

from pathlib import Path

import click

from tijepa.cli.options import checkpoint_option, run_argument

__all__ = ["explain"]


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
    """Show where in IMAGE the model of the run folder RUN sees TEXT.

    \b
    tijepa explain runs/demo image.png "a red circle"
    """
    from tijepa.runs.explain import explain_pair

    found = explain_pair(run, image, text, out, grid=grid, checkpoint=checkpoint)
    unit = ", nats" if found.form == "calibrated" else ""
    click.echo(
        f"lowest energy {found.lowest:.3f} in row {found.row + 1}, column {found.column + 1} of"
        f" {grid} x {grid} cells, counted from the top left"
    )
    click.echo(f"energy of the pair {found.pair:.3f} ({found.form}{unit})")
    click.echo(f"overlay: {out}")
