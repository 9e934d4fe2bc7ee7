"""`tijepa embed`: the embeddings of a store as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from tijepa.cli.run_options import checkpoint_option, run_argument, stopping, threads_option

__all__ = ["embed"]


@click.command()
@run_argument
@click.argument("store", metavar="STORE")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="NAME.parquet|NAME.npy",
    help="A file there is replaced; NAME.npy has its rows listed in NAME.jsonl.",
)
@click.option(
    "--form",
    type=click.Choice(["calibrated", "cosine", "squared_l2"]),
    help="[default: the model's default form]",
)
@click.option("--only", type=click.Choice(["images", "texts"]), help="[default: both]")
@checkpoint_option
@threads_option
def embed(
    run: Path,
    store: str,
    out: Path,
    form: Literal["calibrated", "cosine", "squared_l2"] | None,
    only: Literal["images", "texts"] | None,
    checkpoint: str | None,
    threads: int | None,
) -> None:
    """Write the joint embedding of every picture and caption of STORE.

    \b
    tijepa embed runs/photos photos.lance --out embeddings.parquet
    """
    from rich.console import Console

    from tijepa.embedder import load
    from tijepa.search.columns import check_ending, write_embeddings
    from tijepa.search.embedding import embedded_store

    check_ending(out)
    model = load(run, checkpoint=checkpoint)
    sides: tuple[Literal["images", "texts"], ...] = (only,) if only else ("images", "texts")
    with (
        stopping("what is embedded is kept; the same command goes on"),
        embedded_store(model, store, form, threads=threads, console=Console()) as embedded,
    ):
        count = write_embeddings(embedded.shelf, embedded.store, out, sides)
    length = embedded.shelf.length
    click.echo(f"written   {out}: {count:,} rows of {length} numbers, form {embedded.form}")
