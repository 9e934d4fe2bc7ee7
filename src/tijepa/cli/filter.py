"""What makes a new store of one by a model: `tijepa filter` and `tijepa pair`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tijepa.cli.options import (
    EMBEDDED,
    FOLDER,
    RUN,
    F,
    checkpoint_option,
    option,
    stopping,
    store_argument,
    threads_option,
    together,
)

if TYPE_CHECKING:
    from tijepa.search.filter import Filtered, Paired


def _judging(
    keep: str, files: str, where: str, new_store: str, *, keep_all: bool
) -> Callable[[F], F]:
    """STORE, and the options that both verbs have, each with its own words."""
    return together(
        store_argument,
        option("--run", required=True, type=RUN, help="Run folder of the model that judges."),
        option("--keep", required=not keep_all, type=float, metavar="SHARE", help=keep),
        option("--out", required=True, type=FOLDER, metavar="FOLDER", help=files),
        option("--where", metavar="CONDITION", help=where),
        option("--store", "new_store", metavar="NAME.lance", help=new_store),
        checkpoint_option,
        threads_option,
    )


def _conclude(done: Filtered | Paired) -> None:
    """Where the report lies, what was written as a new store, and how to train on it."""
    from tijepa.data.validation import train_command

    click.echo(f"report    {done.report}")
    written = done.written
    if written is not None:
        items = sum(written.added.values())
        click.echo(f"written   {written.uri} version {written.version}: {items:,} items")
        click.echo(f"train on it: {train_command(written.uri)}")


@click.command("filter")
@_judging(
    "Of the pairs: 0.8.",
    "For kept.jsonl, dropped.jsonl, filter.json and filter.html.",
    "Judge these alone: \"source = 'web'\".",
    "Also write what stays as a store.",
    keep_all=False,
)
@option("--all-splits", is_flag=True, help="Judge held-out pairs too.")
def filter_(store: str, run: Path, out: Path, **options: Any) -> None:
    """Judge the training pairs of STORE by energy and keep the best.

    Held-out pairs stay as they are. Pairs that the run was trained on are judged
    by what the others say of them, where its encoders are frozen.

    \b
    tijepa filter noisy.lance --run runs/photos --keep 0.8 --out filtered \\
      --store clean.lance
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.io.formatting import energy_name
    from tijepa.search.filter import filter_store

    with stopping(EMBEDDED):
        done = filter_store(run, store, out, reporter=ConsoleReporter(), **options)
    click.echo(
        f"kept      {done.kept:,} of {done.pairs:,} pairs, those of energy up to"
        f" {done.highest_energy_kept:.4g} ({energy_name(done.form)})"
    )
    _conclude(done)


@click.command()
@_judging(
    "Of the pseudo-pairs, the best.  [default: all]",
    "For pairs.jsonl, pair.json and pair.html.",
    "Among these alone: \"source = 'web'\".",
    "Also write the store with them as pairs.",
    keep_all=True,
)
def pair(store: str, run: Path, out: Path, **options: Any) -> None:
    """Match images without caption to texts without image.

    Each image of the train split gets the text of lowest energy and each text
    its image, as pseudo-pairs beside the true ones. Train on them, match again
    with that run, and so on.

    \b
    tijepa pair mixed.lance --run runs/few --out matches --store more.lance
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.io.formatting import energy_name
    from tijepa.search.filter import pair_store

    with stopping(EMBEDDED):
        done = pair_store(run, store, out, reporter=ConsoleReporter(), **options)
    click.echo(
        f"matched   {done.images:,} images and {done.texts:,} texts by energy"
        f" ({energy_name(done.form)}): {done.kept:,} pseudo-pairs, {done.mutual:,} of them mutual"
    )
    _conclude(done)
