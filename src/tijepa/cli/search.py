"""`tijepa search`: the images for some words, or the captions for an image."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from tijepa.cli.options import checkpoint_option, run_argument


@click.command()
@run_argument
@click.argument("store", metavar="STORE")
@click.argument("text", required=False)
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image that asks for captions, in place of TEXT.",
)
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An image that asks for images like it.",
)
@click.option("--k", type=click.IntRange(1, 10_000), default=10, show_default=True, metavar="N")
@click.option("--where", metavar="CONDITION", help="On columns: \"split = 'test' AND likes > 3\".")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a gallery, offline."
)
@click.option("--exact", is_flag=True, help="Compute every energy; leave the lists aside.")
@click.option("--backend", metavar="NAME", help="A registered search backend in their place.")
@checkpoint_option
def search(
    run: Path,
    store: str,
    text: str | None,
    image: Path | None,
    like: Path | None,
    k: int,
    where: str | None,
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
    if sum(one is not None for one in (text, image, like)) != 1:
        raise click.UsageError("Give TEXT, --image or --like, one of them.")
    from rich.console import Console

    from tijepa.cli.tables import print_answer
    from tijepa.inference.loading import load
    from tijepa.search import Index
    from tijepa.search.answer import answer_facts, ask, write_answer

    weights = [] if checkpoint is None else ["--checkpoint", checkpoint]
    made_by = shlex.join(["tijepa", "index", str(run), store, *weights])
    model = load(run, checkpoint=checkpoint)
    index = Index.open(model, store, exact=exact, backend=backend, made_by=made_by)
    answer = ask(index, text=text, image=like or image, alike=like is not None, k=k, where=where)
    if as_json:
        click.echo(json.dumps(answer_facts(answer, index), allow_nan=False))
    else:
        print_answer(Console(), answer, index)
        behind = index.stale_rows
        if behind:
            click.echo(f"{behind:,} rows are new and not searched: tijepa index adds them")
    if html is not None:
        write_answer(html, answer, index)
        click.echo(f"gallery: {html}", err=as_json)
