"""`tijepa export`: a trained model as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import click

from tijepa.cli.options import checkpoint_option, run_argument


@click.command()
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="New folder for the graphs."
)
@click.option("--int8", is_flag=True, help="Quantised graphs too, and what they cost in recall.")
@checkpoint_option
def export(run: Path, out: Path, int8: bool, checkpoint: str | None) -> None:
    """Write the model of RUN as ONNX, checked against it.

    \b
    tijepa export runs/demo --out demo-onnx --int8

    In Python: tijepa.load("demo-onnx", backend="onnx", precision="int8")
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.export.onnx import export_run

    said = export_run(run, out, int8=int8, checkpoint=checkpoint, reporter=ConsoleReporter())
    click.echo(
        f"largest difference from the model {said['max_abs_difference']:.2g}"
        f" (bound {said['bound']:.2g})"
    )
    if int8:
        found = said["int8"]
        click.echo(f"int8: largest difference {found['max_abs_difference']:.2g}")
        lost = found["recall_lost"]
        if lost is not None:
            losses = ", ".join(f"R@{k} {100 * lost[f'recall_at_{k}']:.1f}" for k in (1, 5, 10))
            click.echo(f"int8 loses, in points of recall on held-out pairs: {losses}")
    click.echo(f"graphs: {out}")
