"""`tijepa filter`: drop the captions that do not fit their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tijepa.cli.run_options import RUN, checkpoint_option, stopping, threads_option

if TYPE_CHECKING:
    from rich.console import Console

    from tijepa.search.filter import Filtered

__all__ = ["filter_"]


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
@click.option("--store", "new", metavar="NAME.lance", help="Also write what stays as a store.")
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
    from rich.console import Console

    from tijepa.data.store.location import is_store, store_exists
    from tijepa.embedder import load
    from tijepa.errors import ConfigError, DataError
    from tijepa.search.filter import filter_store

    if new is not None and not is_store(new):
        raise ConfigError(f"--store {new} does not end with .lance: name it {new}.lance")
    if new is not None and store_exists(new):
        raise DataError(f"{new} exists already: name another --store")
    console = Console()
    model = load(run, checkpoint=checkpoint)
    with stopping("what is embedded is kept; the same command goes on"):
        done = filter_store(
            model, store, out, keep=keep, where=where, threads=threads, console=console
        )
    facts = done.facts
    highest = facts["highest_energy_kept"]
    click.echo(
        f"kept      {facts['kept']:,} of {facts['pairs']:,} pairs, those of energy up to"
        f" {highest:.4g} ({facts['form']})"
    )
    click.echo(f"report    {out / 'filter.html'}")
    if new is not None:
        _write(console, store, new, done, threads)


def _write(console: Console, store: str, new: str, done: Filtered, threads: int | None) -> None:
    import os

    from tijepa.data.doctor import train_command
    from tijepa.data.records import ReaderOptions
    from tijepa.data.store.prepare import write_store
    from tijepa.data.store.progress import watched
    from tijepa.search.kept import KeptReader

    reader = KeptReader(store, ReaderOptions(), done.dropped)
    with watched(console, f"writing {new}", reader.count()) as advance:
        threads = threads or os.cpu_count() or 1
        written = write_store(reader, new, source=store, threads=threads, advance=advance)
    items = sum(written.added.values())
    click.echo(f"written   {new} version {written.version}: {items:,} items")
    click.echo(f"train on it: {train_command(new)}")
