"""What verbs share: the argument RUN, common options, how they stop, settings as flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

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


# The library names settings in backticks, `max_bad` or `append=True`; whoever typed a command
# reads flags.

FLAGS = {
    "append": "--append",
    "caption_column": "--caption-column",
    "checkpoint": "--checkpoint",
    "config": "--config",
    "data": "--data",
    "duplicates": "--duplicates",
    "everything": "--all",
    "grid": "--grid",
    "head": "--head",
    "host": "--host",
    "image": "--image",
    "image_column": "--image-column",
    "int8": "--int8",
    "keep": "--keep",
    "label": "--label",
    "max_bad": "--max-bad",
    "name": "--name",
    "new_store": "--store",
    "open_to_all": "--no-key",
    "out": "--out",
    "parts": "--meaning",
    "port": "--port",
    "preset": "--preset",
    "resume": "--resume",
    "replace": "--replace",
    "side": "--on",
    "split": "--split",
    "split_column": "--split-column",
    "tune": "--finetune",
    "tuning": "--finetune",
}
_SETTING = re.compile(r"`(\w+)(?:=([^`]*))?`")


def in_flags(message: str) -> str:
    """`message` with each setting that a verb has an option for written as that option."""

    def flag(found: re.Match[str]) -> str:
        if found[1] not in FLAGS:
            return found[0]
        given = "" if found[2] in (None, "True") else f" {found[2]}"
        return FLAGS[found[1]] + given

    return _SETTING.sub(flag, message)


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
