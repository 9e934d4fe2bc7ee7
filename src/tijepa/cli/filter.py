"""`tijepa filter`: drop the captions that do not fit their pictures."""

from __future__ import annotations

from pathlib import Path

import click

from tijepa.cli.new_store import check_new_store, new_store_option, write_new_store
from tijepa.cli.run_options import RUN, checkpoint_option, stopping, threads_option

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
    from rich.console import Console

    from tijepa.data.records import ReaderOptions
    from tijepa.embedder import load
    from tijepa.search.filter import filter_store
    from tijepa.search.kept import KeptReader

    check_new_store(new)
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
        reader = KeptReader(store, ReaderOptions(), done.dropped)
        write_new_store(console, reader, store, new, threads)
