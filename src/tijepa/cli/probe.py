"""`tijepa probe`: what simple classifiers find in a run's frozen features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from tijepa.cli.run_options import checkpoint_option, run_argument

__all__ = ["probe"]


@click.command()
@run_argument
@click.argument("store")
@click.option("--label", required=True, metavar="COLUMN", help="The labels, by column.")
@click.option(
    "--on",
    "side",
    type=click.Choice(["image", "text", "pair"]),
    default="pair",
    show_default=True,
    help="What is classified.",
)
@click.option(
    "--method",
    type=click.Choice(["linear", "knn"]),
    default="linear",
    show_default=True,
    help="Logistic regression, or k nearest neighbours.",
)
@click.option("--split", default="train", metavar="NAME", show_default=True, help="Which split.")
@click.option("--folds", default=5, metavar="N", show_default=True, help="At least 2.")
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def probe(
    run: Path,
    store: str,
    label: str,
    side: Literal["image", "text", "pair"],
    method: Literal["linear", "knn"],
    split: str,
    folds: int,
    checkpoint: str | None,
    as_json: bool,
) -> None:
    """Probe the run folder RUN with the labels of STORE, by cross-validation.

    \b
    tijepa probe runs/demo tweets.lance --label mood --on text --method knn
    """
    from rich.console import Console

    from tijepa.classify import probe_run
    from tijepa.classify.table import print_scores

    console = Console(stderr=as_json)
    results = probe_run(
        run,
        store,
        label,
        side=side,
        method=method,
        split=split,
        folds=folds,
        checkpoint=checkpoint,
        console=console,
    )
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
    else:
        print_scores(console, results)
