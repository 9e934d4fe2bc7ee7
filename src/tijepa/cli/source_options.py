"""How a source is read: the options that every verb on sources has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

__all__ = ["source_arguments", "source_options"]

if TYPE_CHECKING:
    from tijepa.data.records import ReaderOptions

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--reader", metavar="NAME", help="How to read it.  [default: by its look]"),
    click.option("--image-column", metavar="NAME", help="Column of the picture or its path."),
    click.option("--caption-column", metavar="NAME", help="Column of the captions."),
    click.option("--split-column", metavar="NAME", help="Column of the split."),
)


def source_options(command: F) -> F:
    """Add --reader, --image-column, --caption-column and --split-column."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def source_arguments(reader: str | None, options: ReaderOptions) -> list[str]:
    """The words of a command line that say the same; what is None is left out."""
    given = (
        ("--reader", reader),
        ("--image-column", options.image_column),
        ("--caption-column", options.caption_column),
        ("--split-column", options.split_column),
    )
    return [word for name, value in given if value is not None for word in (name, value)]
