"""What the verbs on a trained run share: the argument RUN, their options, how they are stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tijepa.data.records import ReaderOptions

__all__ = [
    "RUN",
    "checkpoint_option",
    "run_argument",
    "source_arguments",
    "source_options",
    "stopping",
    "threads_option",
]

RUN = click.Path(exists=True, file_okay=False, path_type=Path)


def _check_checkpoint(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """The value of `--checkpoint`; a usage error where it can name none."""
    if value is not None and value not in ("best", "last") and not value.isdecimal():
        raise click.BadParameter(f"'{value}' is neither best, last nor the number of a step.")
    return value


run_argument = click.argument("run", type=RUN)
checkpoint_option = click.option(
    "--checkpoint",
    callback=_check_checkpoint,
    metavar="best|last|STEP",
    help="Weights to use.  [default: the final model]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="[default: cores]"
)


@contextmanager
def stopping(kept: str) -> Iterator[None]:
    """After Ctrl-C say in one line what is kept and what the same command does then."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"stopped: {kept}", err=True)
        raise


# How a source is read: the options that every verb on sources has.


F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--reader", metavar="NAME", help="How to read it.  [default: by its look]"),
    click.option("--image-column", metavar="NAME", help="Column of the image or its path."),
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
