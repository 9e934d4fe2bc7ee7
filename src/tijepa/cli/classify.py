"""Labels of a store: `tijepa classify` fits a classifier or uses it, `tijepa probe` measures."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal

import click

from tijepa.cli.options import checkpoint_option, run_argument, stopping


@click.group()
def classify() -> None:
    """Fit a classifier on a run's model, or predict with it."""


@classify.command()
@run_argument
@click.argument("store")
@click.option("--label", required=True, metavar="COLUMN", help="The labels, by column.")
@click.option("--name", help="Of the classifier.  [default: the column]")
@click.option("--on", "side", type=click.Choice(["pair", "image", "text"]), default="pair")
@click.option("--head", type=click.Choice(["linear", "mlp"]), default="linear")
@click.option("--finetune", type=click.Choice(["text", "image", "both"]), help="Train it, too.")
@click.option("--layers", type=click.IntRange(1), help="Only its last layers.")
@click.option("--epochs", type=click.IntRange(1), help="Of --finetune.  [default: 3]")
@click.option("--lr", type=click.FloatRange(0, 1, min_open=True), help="[default: 3e-5]")
@click.option("--balance", is_flag=True, help="All classes weigh the same.")
@click.option("--folds", default=5, metavar="N", show_default=True, help="0: none.")
@click.option("--copies", type=click.Choice(["image", "either"]), default="either")
@checkpoint_option
@click.option("--seed", default=0, metavar="N")
@click.option("--replace", is_flag=True, help="Replace the classifier of this name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fit(
    run: Path,
    store: str,
    label: str,
    name: str | None,
    side: Literal["pair", "image", "text"],
    head: Literal["linear", "mlp"],
    finetune: Literal["text", "image", "both"] | None,
    layers: int | None,
    epochs: int | None,
    lr: float | None,
    balance: bool,
    folds: int,
    copies: str,
    checkpoint: str | None,
    seed: int,
    replace: bool,
    as_json: bool,
) -> None:
    """Fit a classifier of STORE's labels on RUN, and cross-validate it."""
    from rich.console import Console

    from tijepa.classify import FitOptions, Tuning, fit_classifier
    from tijepa.cli.tables import print_scores
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.errors import ConfigError

    given = {"layers": layers, "epochs": epochs, "lr": lr}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if finetune is None and settings:
        raise ConfigError(f"--{next(iter(settings))} has no effect without --finetune: drop it")
    reporter = ConsoleReporter(Console(stderr=as_json))
    options = FitOptions(
        side=side,
        head=head,
        folds=folds,
        balanced=balance,
        tuning=None if finetune is None else Tuning(finetune, **settings),
        same_text=copies == "either",
        seed=seed,
    )
    with stopping("nothing was kept; the same command starts again"):
        results = fit_classifier(
            run,
            store,
            label,
            name=name,
            checkpoint=checkpoint,
            replace=replace,
            options=options,
            reporter=reporter,
        )
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
        return
    print_scores(reporter.console, results)
    words = ["tijepa", "classify", "predict", str(run), store, "--name", name or label]
    click.echo(f"classifier: {results['folder']}")
    click.echo(f"to use it:  {shlex.join(words)} --out predictions.csv")


@classify.command()
@run_argument
@click.argument("store")
@click.option("--name", required=True, help="Of the classifier, as fitted.")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Ends with .csv or .jsonl; a file there is replaced.",
)
@click.option("--split", metavar="NAME", help="Which split.  [default: all]")
@click.option("--all", "everything", is_flag=True, help="Also items that have a label.")
def predict(
    run: Path, store: str, name: str, out: Path, split: str | None, everything: bool
) -> None:
    """Predict the labels that STORE lacks with a classifier of RUN.

    \b
    tijepa classify predict runs/demo tweets.lance --name mood --out moods.csv
    """
    from tijepa.classify import predict_labels
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.io.formatting import count

    with stopping("nothing was written; the same command starts again"):
        counts = predict_labels(
            run,
            store,
            out,
            name=name,
            split=split,
            everything=everything,
            reporter=ConsoleReporter(),
        )
    predicted = counts.pop("predicted")
    left_out = "".join(f"; {count(n)} left out ({why})" for why, n in counts.items())
    click.echo(f"{count(predicted)} labels: {out}{left_out}")


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
    """Probe the features of RUN with the labels of STORE.

    \b
    tijepa probe runs/demo tweets.lance --label mood --on text --method knn
    """
    from rich.console import Console

    from tijepa.classify import probe_run
    from tijepa.cli.tables import print_scores
    from tijepa.cli.terminal import ConsoleReporter

    reporter = ConsoleReporter(Console(stderr=as_json))
    results = probe_run(
        run,
        store,
        label,
        side=side,
        method=method,
        split=split,
        folds=folds,
        checkpoint=checkpoint,
        reporter=reporter,
    )
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
    else:
        print_scores(reporter.console, results)
