"""A trained model for others: `tijepa serve` over HTTP, `tijepa export` as ONNX graphs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tijepa.cli.options import AT_LEAST_ONE, PATH, F, checkpoint_option, option, run_argument


def _bound(
    flag: str, kind: click.ParamType[Any], default: int | float, text: str, metavar: str = "N"
) -> Callable[[F], F]:
    """An option for a number."""
    return option(flag, type=kind, metavar=metavar, default=default, show_default=True, help=text)


@click.command()
@run_argument
@click.argument("store", required=False)
@option("--host", default="127.0.0.1", show_default=True, help="Listen on it.")
@option("--port", type=click.IntRange(0, 65535), metavar="N", default=8000, show_default=True)
@option("--allow-host", "names", multiple=True, metavar="NAME", help="Another name of this server.")
@option("--no-key", "open_to_all", is_flag=True, help="Listen to others without TIJEPA_API_KEY.")
@checkpoint_option
@_bound("--concurrency", AT_LEAST_ONE, 32, "Requests at once.")
@_bound("--upload-mb", AT_LEAST_ONE, 20, "Of a request, MiB.")
@_bound("--megapixels", click.IntRange(1, 100), 50, "Of an image.")
@_bound("--text-length", AT_LEAST_ONE, 2000, "Characters of a text.")
@_bound("--batch-ms", click.FloatRange(0, 1000), 2, "Wait for a batch.", "MS")
@_bound("--batch-items", AT_LEAST_ONE, 64, "Most of a batch.")
def serve(
    run: Path,
    store: str | None,
    concurrency: int,
    upload_mb: int,
    megapixels: int,
    text_length: int,
    batch_ms: float,
    batch_items: int,
    **options: Any,
) -> None:
    """Serve the model of RUN, and search in STORE, over HTTP.

    \b
    tijepa serve runs/photos photos.lance
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.serve.middleware import Limits
    from tijepa.serve.server import serve_run

    limits = Limits(
        upload_bytes=upload_mb * 2**20,
        pixels=megapixels * 1_000_000,
        text_length=text_length,
        concurrency=concurrency,
    )
    key = os.environ.get("TIJEPA_API_KEY") or None
    wait = batch_ms / 1000
    reporter = ConsoleReporter()
    serve_run(run, store, reporter, key=key, limits=limits, wait=wait, items=batch_items, **options)


@click.command()
@run_argument
@option("--out", type=PATH, required=True, help="New folder for the graphs.")
@option("--int8", is_flag=True, help="Quantised graphs too, and what they cost in recall.")
@checkpoint_option
def export(run: Path, out: Path, int8: bool, checkpoint: str | None) -> None:
    """Write the model of RUN as ONNX, checked against it.

    \b
    tijepa export runs/demo --out demo-onnx --int8

    In Python: tijepa.load("demo-onnx", backend="onnx", precision="int8")
    """
    from tijepa.cli.terminal import ConsoleReporter
    from tijepa.export.onnx import export_run

    said = export_run(run, out, int8=int8, checkpoint=checkpoint, reporter=ConsoleReporter())
    click.echo(
        f"largest difference from the model {said['max_abs_difference']:.2g}"
        f" (bound {said['bound']:.2g})"
    )
    if int8:
        found = said["int8"]
        click.echo(f"int8: largest difference {found['max_abs_difference']:.2g}")
        lost = found["recall_lost"]
        if lost is not None:
            losses = ", ".join(f"R@{k} {100 * lost[f'recall_at_{k}']:.1f}" for k in (1, 5, 10))
            click.echo(f"int8 loses, in points of recall on held-out pairs: {losses}")
    click.echo(f"graphs: {out}")
