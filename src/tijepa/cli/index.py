"""Embeddings of a store: `tijepa index` to search it, `tijepa embed` for other programs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tijepa.cli.options import checkpoint_option, run_argument, stopping, threads_option
from tijepa.io.formatting import plain

if TYPE_CHECKING:
    from tijepa.search import Index


@click.command()
@run_argument
@click.argument("store", metavar="STORE")
@click.option("--exact", is_flag=True, help="Compute every energy at any size: no faiss needed.")
@checkpoint_option
@threads_option
def index(run: Path, store: str, exact: bool, checkpoint: str | None, threads: int | None) -> None:
    """Embed the images and captions of STORE, to search them.

    The embeddings lie beside the store, in NAME.index. Given again it adds rows
    that are new, and goes on where it was stopped.

    \b
    tijepa index runs/photos photos.lance
    tijepa search runs/photos photos.lance "two dogs on a beach"
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.search.index import index as index_store

    with stopping("what is embedded is kept; the same command goes on"):
        built = index_store(
            run,
            store,
            exact=exact,
            checkpoint=checkpoint,
            threads=threads,
            reporter=ConsoleReporter(),
        )
    _conclude(built, run, store)


def _conclude(built: Index, run: Path, store: str) -> None:
    card = built.card
    click.echo(
        f"indexed   {card.store} version {card.version}: {card.images:,} images,"
        f" {card.texts:,} captions, form {plain(card.form)}"
    )
    if card.unreadable:
        click.echo(f"unread    {card.unreadable:,} images; tijepa doctor {store} names them")
    for side, count in (("images", card.images), ("texts", card.texts)):
        lists = card.lists.get(side)  # type: ignore[call-overload]
        if lists is None:
            how = "every energy is computed, so the recall is exact"
        else:
            how = (
                f"{lists.probes:,} of {lists.lists:,} lists are searched; recall at 10 against"
                f" exact search {100 * lists.recall_at_10:.1f} % on {lists.queries} other queries"
            )
        click.echo(f"{side:<9} {count:,}: {how}")
    click.echo(f"folder    {built.folder}")
    click.echo("search it: " + shlex.join(["tijepa", "search", str(run), store, "words"]))


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
    """Write the joint embeddings of STORE as a file.

    \b
    tijepa embed runs/photos photos.lance --out embeddings.parquet
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.inference.loading import load
    from tijepa.search.embed_store import embedded_store
    from tijepa.search.export import check_ending, write_embeddings

    check_ending(out)
    model = load(run, checkpoint=checkpoint)
    sides: tuple[Literal["images", "texts"], ...] = (only,) if only else ("images", "texts")
    with (
        stopping("what is embedded is kept; the same command goes on"),
        embedded_store(model, store, form, threads=threads, reporter=ConsoleReporter()) as embedded,
    ):
        count = write_embeddings(embedded.vector_store, embedded.store, out, sides)
    length = embedded.vector_store.length
    click.echo(f"written   {out}: {count:,} rows of {length} numbers, form {plain(embedded.form)}")
