"""`tijepa pair`: find partners for pictures without caption and texts without picture."""

from __future__ import annotations

from pathlib import Path

import click

from tijepa.cli.new_store import check_new_store, new_store_option, write_new_store
from tijepa.cli.run_options import RUN, checkpoint_option, stopping, threads_option

__all__ = ["pair"]


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
    """Match pictures without caption and texts without picture in STORE.

    Each picture of the train split gets the text of lowest energy and each text
    its picture, as pseudo-pairs beside the true ones. Train on them, match again
    with that run, and so on.

    \b
    tijepa pair mixed.lance --run runs/few --out matches --store more.lance
    """
    from rich.console import Console

    from tijepa.data.records import ReaderOptions
    from tijepa.embedder import load
    from tijepa.search.pair import pair_store
    from tijepa.search.paired import PairedReader

    check_new_store(new)
    console = Console()
    model = load(run, checkpoint=checkpoint)
    with stopping("what is embedded is kept; the same command goes on"):
        done = pair_store(
            model,
            store,
            out,
            keep=keep,
            where=where,
            threads=threads,
            console=console,
        )
    facts = done.facts
    click.echo(
        f"matched   {facts['images']:,} pictures and {facts['texts']:,} texts by energy"
        f" ({facts['form']}): {facts['kept']:,} pseudo-pairs, {facts['mutual']:,} of them mutual"
    )
    click.echo(f"report    {out / 'pair.html'}")
    if new is not None:
        reader = PairedReader(store, ReaderOptions(), done.partners)
        write_new_store(console, reader, store, new, threads)
