"""A store by a model: `tijepa index` and `search` in it, `tijepa embed` for other programs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tijepa.cli.options import (
    EMBEDDED,
    FILE,
    THERE,
    checkpoint_option,
    json_option,
    option,
    run_argument,
    stopping,
    store_argument,
    threads_option,
)
from tijepa.io.formatting import plain

if TYPE_CHECKING:
    from tijepa.search import Index


@click.command()
@run_argument
@store_argument
@option("--exact", is_flag=True, help="Compare with every item at any size: no faiss needed.")
@checkpoint_option
@threads_option
def index(run: Path, store: str, **options: Any) -> None:
    """Embed the images and captions of STORE, to search them.

    The embeddings lie beside the store, in NAME.index. Given again it adds rows
    that are new, and goes on where it was stopped.

    \b
    tijepa index runs/photos photos.lance
    tijepa search runs/photos photos.lance "two dogs on a beach"
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.search.index import index as index_store

    with stopping(EMBEDDED):
        built = index_store(run, store, reporter=ConsoleReporter(), **options)
    _conclude(built, run, store)


def _conclude(built: Index, run: Path, store: str) -> None:
    card = built.card
    click.echo(
        f"indexed   {card.store} version {card.version}: {card.images:,} images,"
        f" {card.texts:,} captions, {plain(card.form)} energy"
    )
    if card.unreadable:
        click.echo(f"unread    {card.unreadable:,} images; tijepa doctor {store} names them")
    for side, count in (("images", card.images), ("texts", card.texts)):
        lists = card.lists.get(side)  # type: ignore[call-overload]
        if lists is None:
            how = "searched exactly"
        else:
            how = (
                f"searched in {lists.probes:,} of {lists.lists:,} clusters; recall at 10 against"
                f" exact search {100 * lists.recall_at_10:.1f} % on {lists.queries} other queries"
            )
        click.echo(f"{side:<9} {count:,}: {how}")
    click.echo(f"folder    {built.folder}")
    click.echo("search it: " + shlex.join(["tijepa", "search", str(run), store, "words"]))


@click.command()
@run_argument
@store_argument
@click.argument("text", required=False)
@option("--image", type=THERE, help="An image that asks for captions, in place of TEXT.")
@option("--like", "alike", type=THERE, help="An image that asks for images like it.")
@option("--k", type=click.IntRange(1, 10_000), default=10, show_default=True, metavar="N")
@option("--where", metavar="CONDITION", help="On columns: \"split = 'test' AND likes > 3\".")
@option("--columns", default="", metavar="NAMES", help="Shown of each hit: price,brand.")
@json_option
@option("--html", type=FILE, help="Write a gallery, offline.")
@option("--exact", is_flag=True, help="Compare with every item, however many there are.")
@option("--backend", metavar="NAME", help="A registered search backend.")
@checkpoint_option
def search(
    run: Path,
    store: str,
    text: str | None,
    image: Path | None,
    alike: Path | None,
    k: int,
    where: str | None,
    columns: str,
    as_json: bool,
    html: Path | None,
    exact: bool,
    backend: str | None,
    checkpoint: str | None,
) -> None:
    """Find the images of STORE for TEXT, once it is indexed.

    \b
    tijepa search runs/photos photos.lance "two dogs on a beach"
    tijepa search runs/photos photos.lance --like photo.jpg
    """
    if sum(one is not None for one in (text, image, alike)) != 1:
        raise click.UsageError("Give TEXT, --image or --like, one of them.")
    from rich.console import Console

    from tijepa.cli.tables import print_answer
    from tijepa.inference.loading import load
    from tijepa.search import Index
    from tijepa.search.answer import answer_facts, ask, write_answer
    from tijepa.search.columns import check_columns

    weights = [] if checkpoint is None else ["--checkpoint", checkpoint]
    made_by = shlex.join(["tijepa", "index", str(run), store, *weights])
    model = load(run, checkpoint=checkpoint)
    index = Index.open(model, store, exact=exact, backend=backend, made_by=made_by)
    shown = [name.strip() for name in columns.split(",") if name.strip()]
    check_columns(shown, index.store.info)
    answer = ask(index, text=text, image=alike or image, alike=alike is not None, k=k, where=where)
    if as_json:
        click.echo(json.dumps(answer_facts(answer, index), allow_nan=False))
    else:
        print_answer(Console(), answer, index, shown)
        behind = index.stale_rows
        if behind:
            click.echo(f"{behind:,} rows are new and not searched: tijepa index adds them")
    if html is not None:
        write_answer(html, answer, index, shown)
        click.echo(f"gallery: {html}", err=as_json)


@click.command()
@run_argument
@store_argument
@option(
    "--out",
    required=True,
    type=FILE,
    metavar="NAME.parquet|NAME.npy",
    help="A file there is replaced; NAME.npy has its rows listed in NAME.jsonl.",
)
@option(
    "--form",
    type=click.Choice(["calibrated", "cosine", "squared_l2"]),
    help="Energy that the embeddings are for.  [default: the model's own]",
)
@option("--only", type=click.Choice(["images", "texts"]), help="[default: both]")
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
    from tijepa.search.embed_store import check_ending, embedded_store, write_embeddings

    check_ending(out)
    model = load(run, checkpoint=checkpoint)
    sides: tuple[Literal["images", "texts"], ...] = (only,) if only else ("images", "texts")
    with (
        stopping(EMBEDDED),
        embedded_store(model, store, form, threads=threads, reporter=ConsoleReporter()) as embedded,
    ):
        count = write_embeddings(embedded.vector_store, embedded.store, out, sides)
    length = embedded.vector_store.length
    click.echo(
        f"written   {out}: {count:,} rows of {length} numbers, {plain(embedded.form)} energy"
    )
