"""Labels of a store: `tijepa classify` fits a classifier or uses it, `tijepa probe` measures."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from tijepa.cli.options import (
    AT_LEAST_ONE,
    FILE,
    checkpoint_option,
    json_option,
    option,
    run_argument,
    stopping,
    store_argument,
)

label_option = option("--label", required=True, metavar="COLUMN", help="The labels, by column.")
side_option = option(
    "--on",
    "side",
    type=click.Choice(["pair", "image", "text"]),
    default="pair",
    show_default=True,
    help="What is classified.",
)


@click.group()
def classify() -> None:
    """Fit a classifier on a run's model, or predict with it."""


@classify.command()
@run_argument
@store_argument
@label_option
@option("--name", help="Name of the classifier.  [default: the column]")
@side_option
@option("--head", type=click.Choice(["linear", "mlp"]), default="linear")
@option("--finetune", "tuning", type=click.Choice(["text", "image", "both"]), help="Train it, too.")
@option("--layers", type=AT_LEAST_ONE, help="Only its last layers.")
@option("--epochs", type=AT_LEAST_ONE, help="Of --finetune.  [default: 3]")
@option("--lr", type=click.FloatRange(0, 1, min_open=True), help="[default: 3e-5]")
@option("--balance", "balanced", is_flag=True, help="All classes weigh the same.")
@option("--folds", default=5, metavar="N", show_default=True, help="0: none.")
@option(
    "--copies",
    type=click.Choice(["image", "either"]),
    default="either",
    help="Keep equal images in one fold; either: equal texts, too.",
)
@checkpoint_option
@option("--seed", default=0, metavar="N")
@option("--replace", is_flag=True, help="Replace the classifier of this name.")
@json_option
def fit(
    run: Path,
    store: str,
    label: str,
    name: str | None,
    tuning: Any,
    copies: str,
    checkpoint: str | None,
    replace: bool,
    as_json: bool,
    layers: int | None,
    epochs: int | None,
    lr: float | None,
    **options: Any,
) -> None:
    """Fit a classifier of STORE's labels on RUN, and cross-validate it."""
    from rich.console import Console

    from tijepa.classify import FitOptions, Tuning, fit_classifier
    from tijepa.cli.tables import print_scores
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.errors import ConfigError

    given = {"layers": layers, "epochs": epochs, "lr": lr}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if tuning is None and settings:
        raise ConfigError(f"--{next(iter(settings))} has no effect without --finetune: drop it")
    reporter = ConsoleReporter(Console(stderr=as_json))
    with stopping("nothing was kept; the same command starts again"):
        results = fit_classifier(
            run,
            store,
            label,
            name=name,
            checkpoint=checkpoint,
            replace=replace,
            options=FitOptions(
                tuning=None if tuning is None else Tuning(tuning, **settings),
                same_text=copies == "either",
                **options,
            ),
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
@store_argument
@option("--name", required=True, help="Name of the classifier, as fitted.")
@option(
    "--out",
    required=True,
    type=FILE,
    metavar="FILE",
    help="Ends with .csv or .jsonl; a file there is replaced.",
)
@option("--split", metavar="NAME", help="Which split.  [default: all]")
@option("--all", "everything", is_flag=True, help="Also items that have a label.")
def predict(run: Path, store: str, out: Path, **options: Any) -> None:
    """Predict the labels that STORE lacks with a classifier of RUN.

    \b
    tijepa classify predict runs/demo tweets.lance --name mood --out moods.csv
    """
    from tijepa.classify import predict_labels
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.io.formatting import count

    with stopping("nothing was written; the same command starts again"):
        counts = predict_labels(run, store, out, reporter=ConsoleReporter(), **options)
    predicted = counts.pop("predicted")
    left_out = "".join(f"; {count(n)} left out ({why})" for why, n in counts.items())
    click.echo(f"{count(predicted)} labels: {out}{left_out}")


@click.command()
@run_argument
@store_argument
@label_option
@side_option
@option(
    "--method",
    type=click.Choice(["linear", "knn"]),
    default="linear",
    show_default=True,
    help="Logistic regression, or k nearest neighbours.",
)
@option("--split", default="train", metavar="NAME", show_default=True, help="Which split.")
@option("--folds", default=5, metavar="N", show_default=True, help="At least 2.")
@checkpoint_option
@json_option
def probe(run: Path, store: str, label: str, as_json: bool, **options: Any) -> None:
    """Probe the features of RUN with the labels of STORE.

    \b
    tijepa probe runs/demo tweets.lance --label mood --on text --method knn
    """
    from rich.console import Console

    from tijepa.classify import probe_run
    from tijepa.cli.tables import print_scores
    from tijepa.cli.terminal import ConsoleReporter

    reporter = ConsoleReporter(Console(stderr=as_json))
    results = probe_run(run, store, label, reporter=reporter, **options)
    if as_json:
        click.echo(json.dumps(results, allow_nan=False))
    else:
        print_scores(reporter.console, results)
