"""What makes a new store of one by a model: `tijepa filter` and `tijepa pair`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tijepa.cli.options import RUN, checkpoint_option, stopping, threads_option

if TYPE_CHECKING:
    from tijepa.data.store.prepare import Prepared

Verb = TypeVar("Verb", bound=Callable[..., Any])


def _new_store_option(help_text: str) -> Callable[[Verb], Verb]:
    """`--store NAME.lance`."""
    return click.option("--store", "new", metavar="NAME.lance", help=help_text)


def _told(written: Prepared | None) -> None:
    """What was written as a new store, and how to train on it."""
    from tijepa.data.validation import train_command

    if written is not None:
        items = sum(written.added.values())
        click.echo(f"written   {written.uri} version {written.version}: {items:,} items")
        click.echo(f"train on it: {train_command(written.uri)}")


@click.command("filter")
@click.argument("store", metavar="STORE")
@click.option("--run", required=True, type=RUN, help="Run folder of the model that judges.")
@click.option("--keep", required=True, type=float, metavar="SHARE", help="Of the pairs: 0.8.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="For kept.jsonl, dropped.jsonl, filter.json and filter.html.",
)
@click.option("--where", metavar="CONDITION", help="Judge these alone: \"source = 'web'\".")
@click.option("--all-splits", is_flag=True, help="Judge held-out pairs too.")
@_new_store_option("Also write what stays as a store.")
@checkpoint_option
@threads_option
def filter_(
    store: str,
    run: Path,
    keep: float,
    out: Path,
    where: str | None,
    all_splits: bool,
    new: str | None,
    checkpoint: str | None,
    threads: int | None,
) -> None:
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

    with stopping("what is embedded is kept; the same command goes on"):
        done = filter_store(
            run,
            store,
            out,
            keep=keep,
            where=where,
            all_splits=all_splits,
            new_store=new,
            checkpoint=checkpoint,
            threads=threads,
            reporter=ConsoleReporter(),
        )
    click.echo(
        f"kept      {done.kept:,} of {done.pairs:,} pairs, those of energy up to"
        f" {done.highest_energy_kept:.4g} ({energy_name(done.form)})"
    )
    click.echo(f"report    {done.report}")
    _told(done.written)


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--run", required=True, type=RUN, help="Run folder of the model that matches.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="For pairs.jsonl, pair.json and pair.html.",
)
@click.option(
    "--keep", type=float, metavar="SHARE", help="Of the pseudo-pairs, the best.  [default: all]"
)
@click.option("--where", metavar="CONDITION", help="Among these alone: \"source = 'web'\".")
@_new_store_option("Also write the store with them as pairs.")
@checkpoint_option
@threads_option
def pair(
    store: str,
    run: Path,
    out: Path,
    keep: float | None,
    where: str | None,
    new: str | None,
    checkpoint: str | None,
    threads: int | None,
) -> None:
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

    with stopping("what is embedded is kept; the same command goes on"):
        done = pair_store(
            run,
            store,
            out,
            keep=keep,
            where=where,
            new_store=new,
            checkpoint=checkpoint,
            threads=threads,
            reporter=ConsoleReporter(),
        )
    click.echo(
        f"matched   {done.images:,} images and {done.texts:,} texts by energy"
        f" ({energy_name(done.form)}): {done.kept:,} pseudo-pairs, {done.mutual:,} of them mutual"
    )
    click.echo(f"report    {done.report}")
    _told(done.written)
