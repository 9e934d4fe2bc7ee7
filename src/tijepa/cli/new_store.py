"""What the verbs share that write one store as another: `filter` and `pair`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

Verb = TypeVar("Verb", bound=Callable[..., Any])

if TYPE_CHECKING:
    from rich.console import Console

    from tijepa.data.records import Reader

__all__ = ["check_new_store", "new_store_option", "write_new_store"]


def new_store_option(help_text: str) -> Callable[[Verb], Verb]:
    """`--store NAME.lance`."""
    return click.option("--store", "new", metavar="NAME.lance", help=help_text)


def check_new_store(new: str | None) -> None:
    """`ConfigError` where `new` names no store, `DataError` where there is one."""
    from tijepa.data.store.location import is_store, store_exists
    from tijepa.errors import ConfigError, DataError

    if new is not None and not is_store(new):
        raise ConfigError(f"--store {new} does not end with .lance: name it {new}.lance")
    if new is not None and store_exists(new):
        raise DataError(f"{new} exists already: name another --store")


def write_new_store(
    console: Console, reader: Reader, store: str, new: str, threads: int | None
) -> None:
    """Write what `reader` makes of `store` as `new`, and say how to train on it."""
    from tijepa.data.doctor import train_command
    from tijepa.data.store.prepare import write_store
    from tijepa.data.store.progress import watched

    with watched(console, f"writing {new}", reader.count()) as advance:
        threads = threads or os.cpu_count() or 1
        written = write_store(reader, new, source=store, threads=threads, advance=advance)
    items = sum(written.added.values())
    click.echo(f"written   {new} version {written.version}: {items:,} items")
    click.echo(f"train on it: {train_command(new)}")
