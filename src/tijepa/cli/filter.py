"""`tijepa filter`: drop the captions that do not fit their images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tijepa.cli.options import RUN, checkpoint_option, stopping, threads_option

if TYPE_CHECKING:
    from tijepa.data.records import Reader
    from tijepa.io.progress import Reporter

__all__ = ["check_new_store", "filter_", "new_store_option", "pair", "write_new_store"]

# What the verbs share that write one store as another: `filter` and `pair`.


Verb = TypeVar("Verb", bound=Callable[..., Any])


def new_store_option(help_text: str) -> Callable[[Verb], Verb]:
    """`--store NAME.lance`."""
    return click.option("--store", "new", metavar="NAME.lance", help=help_text)


def check_new_store(new: str | None) -> None:
    """`ConfigError` where `new` names no store, `DataError` where there is one."""
    from tijepa.data.store.schema import is_store, store_exists
    from tijepa.errors import ConfigError, DataError

    if new is not None and not is_store(new):
        raise ConfigError(f"--store {new} does not end with .lance: name it {new}.lance")
    if new is not None and store_exists(new):
        raise DataError(f"{new} exists already: name another --store")


def write_new_store(
    reporter: Reporter, reader: Reader, store: str, new: str, threads: int | None
) -> None:
    """Write what `reader` makes of `store` as `new`, and say how to train on it."""
    from tijepa.data.store.prepare import write_store
    from tijepa.data.validation import train_command

    with reporter.bar(f"writing {new}", reader.count()) as advance:
        threads = threads or os.cpu_count() or 1
        written = write_store(reader, new, source=store, threads=threads, advance=advance)
    items = sum(written.added.values())
    click.echo(f"written   {new} version {written.version}: {items:,} items")
    click.echo(f"train on it: {train_command(new)}")


@click.command("filter")
@click.argument("store", metavar="STORE")
@click.option(
    "--run",
    required=True,
    type=RUN,
    help="Run folder of the model that judges.",
)
@click.option("--keep", required=True, type=float, metavar="SHARE", help="Of the pairs: 0.8.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="For kept.jsonl, dropped.jsonl, filter.json and filter.html.",
)
@click.option("--where", metavar="CONDITION", help="Judge these alone: \"split = 'train'\".")
@new_store_option("Also write what stays as a store.")
@checkpoint_option
@threads_option
def filter_(
    store: str,
    run: Path,
    keep: float,
    out: Path,
    where: str | None,
    new: str | None,
    checkpoint: str | None,
    threads: int | None,
) -> None:
    """Judge each pair of STORE by its energy and keep the best share.

    \b
    tijepa filter noisy.lance --run runs/photos --keep 0.8 --out filtered \\
      --where "split = 'train'" --store clean.lance
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.records import ReaderOptions
    from tijepa.inference.embedder import load
    from tijepa.search.filter import FilteredReader, filter_store

    check_new_store(new)
    reporter = ConsoleReporter()
    model = load(run, checkpoint=checkpoint)
    with stopping("what is embedded is kept; the same command goes on"):
        done = filter_store(
            model, store, out, keep=keep, where=where, threads=threads, reporter=reporter
        )
    facts = done.facts
    highest = facts["highest_energy_kept"]
    click.echo(
        f"kept      {facts['kept']:,} of {facts['pairs']:,} pairs, those of energy up to"
        f" {highest:.4g} ({facts['form']})"
    )
    click.echo(f"report    {out / 'filter.html'}")
    if new is not None:
        reader = FilteredReader(store, ReaderOptions(), done.dropped)
        write_new_store(reporter, reader, store, new, threads)


# `tijepa pair`: find partners for images without caption and texts without image.


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
@new_store_option("Also write the store with them as pairs.")
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
    """Match images without caption and texts without image in STORE.

    Each image of the train split gets the text of lowest energy and each text
    its image, as pseudo-pairs beside the true ones. Train on them, match again
    with that run, and so on.

    \b
    tijepa pair mixed.lance --run runs/few --out matches --store more.lance
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.data.records import ReaderOptions
    from tijepa.inference.embedder import load
    from tijepa.search.pseudo_pairs import PseudoPairReader, pair_store

    check_new_store(new)
    reporter = ConsoleReporter()
    model = load(run, checkpoint=checkpoint)
    with stopping("what is embedded is kept; the same command goes on"):
        done = pair_store(
            model,
            store,
            out,
            keep=keep,
            where=where,
            threads=threads,
            reporter=reporter,
        )
    facts = done.facts
    click.echo(
        f"matched   {facts['images']:,} images and {facts['texts']:,} texts by energy"
        f" ({facts['form']}): {facts['kept']:,} pseudo-pairs, {facts['mutual']:,} of them mutual"
    )
    click.echo(f"report    {out / 'pair.html'}")
    if new is not None:
        reader = PseudoPairReader(store, ReaderOptions(), done.partners)
        write_new_store(reporter, reader, store, new, threads)
