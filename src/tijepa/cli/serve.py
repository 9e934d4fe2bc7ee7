"""`tijepa serve`: a trained model over HTTP, with a web page."""

from __future__ import annotations

from pathlib import Path

import click

from tijepa.cli.options import checkpoint_option, run_argument

_AT_LEAST_ONE = click.IntRange(min=1)


@click.command()
@run_argument
@click.argument("store", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen on it.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", default=8000, show_default=True)
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="A further name of this server."
)
@click.option("--no-key", is_flag=True, help="Listen to others without TIJEPA_API_KEY.")
@checkpoint_option
@click.option(
    "--concurrency",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=32,
    show_default=True,
    help="Requests at once.",
)
@click.option(
    "--upload-mb",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=20,
    show_default=True,
    help="Of a request, MiB.",
)
@click.option(
    "--megapixels",
    type=click.IntRange(1, 100),
    metavar="N",
    default=50,
    show_default=True,
    help="Of an image.",
)
@click.option(
    "--text-length",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=2000,
    show_default=True,
    help="Characters of a text.",
)
@click.option(
    "--batch-ms",
    type=click.FloatRange(0, 1000),
    metavar="MS",
    default=2,
    show_default=True,
    help="Wait for a batch.",
)
@click.option(
    "--batch-items",
    type=_AT_LEAST_ONE,
    metavar="N",
    default=64,
    show_default=True,
    help="Most of a batch.",
)
def serve(
    run: Path,
    store: str | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    no_key: bool,
    checkpoint: str | None,
    concurrency: int,
    upload_mb: int,
    megapixels: int,
    text_length: int,
    batch_ms: float,
    batch_items: int,
) -> None:
    """Serve the model of RUN, and search in STORE, over HTTP.

    \b
    tijepa serve runs/photos photos.lance
    """
    import os

    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.serve.middleware import Limits
    from tijepa.serve.server import serve_run

    serve_run(
        run,
        store,
        ConsoleReporter(),
        host=host,
        port=port,
        key=os.environ.get("TIJEPA_API_KEY") or None,
        open_to_all=no_key,
        names=names,
        checkpoint=checkpoint,
        limits=Limits(
            upload_bytes=upload_mb * 2**20,
            pixels=megapixels * 1_000_000,
            text_length=text_length,
            concurrency=concurrency,
        ),
        wait=batch_ms / 1000,
        items=batch_items,
    )
