"""What verbs share: options and arguments, how they stop, settings as flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
RUN = click.Path(exists=True, file_okay=False, path_type=Path)
AT_LEAST_ONE = click.IntRange(min=1)

# The library names settings in backticks, `max_bad` or `append=True`; whoever typed a command
# reads flags. A verb's option has the name of the setting that it gives, so that it is passed on as
# it is, and tells its flag here.

FLAGS = {"tune": "--finetune"}  # a part of `tuning`
_SETTING = re.compile(r"`(\w+)(?:=([^`]*))?`")


def option(flag: str, setting: str | None = None, **how: Any) -> Callable[[F], F]:
    """An option `flag` for `setting` of the library, by default the one of the same name."""
    setting = setting or flag.removeprefix("--").replace("-", "_")
    assert FLAGS.setdefault(setting, flag) == flag, setting
    return click.option(flag, setting, **how)


def in_flags(message: str) -> str:
    """`message` with each setting that a verb has an option for written as that option."""

    def flag(found: re.Match[str]) -> str:
        if found[1] not in FLAGS:
            return found[0]
        given = "" if found[2] in (None, "True") else f" {found[2]}"
        return FLAGS[found[1]] + given

    return _SETTING.sub(flag, message)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help shows them."""

    def add(command: F) -> F:
        for one in reversed(options):
            command = one(command)
        return command

    return add


def _check_checkpoint(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """The value of `--checkpoint`; a usage error where it can name none."""
    if value is not None and value not in ("best", "last") and not value.isdecimal():
        raise click.BadParameter(f"'{value}' is neither best, last nor the number of a step.")
    return value


run_argument = click.argument("run", type=RUN)
store_argument = click.argument("store", metavar="STORE")
checkpoint_option = option(
    "--checkpoint",
    callback=_check_checkpoint,
    metavar="best|last|STEP",
    help="Weights to use.  [default: the final model]",
)
threads_option = option("--threads", type=AT_LEAST_ONE, metavar="N", help="[default: cores]")
json_option = option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
source_options = together(
    option("--reader", metavar="NAME", help="How to read it.  [default: told by its files]"),
    option("--image-column", metavar="NAME", help="Column of the image or its path."),
    option(
        "--caption-column",
        metavar="NAME",
        multiple=True,
        callback=lambda _, __, given: given or None,
        help="Column of captions; may be repeated.",
    ),
    option("--split-column", metavar="NAME", help="Column of the split."),
    option(
        "--max-bad",
        type=click.FloatRange(0, 1),
        default=0.01,
        show_default=True,
        help="Share of broken items above which a source is unfit.",
    ),
    option(
        "--threads",
        type=click.IntRange(min=0),
        metavar="N",
        help="Threads that decode; 0: none beside the main one.  [default: cores]",
    ),
)
settings_options = together(
    click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]..."),
    option("--preset", metavar="NAME", help="Start from a preset; see: tijepa presets"),
    option("--config", type=PATH, metavar="FILE", help="YAML file on top of the preset."),
    option("--data", metavar="SOURCE", help="Store or folder of pairs; sets data.source."),
)


EMBEDDED = "what is embedded is kept; the same command goes on"


@contextmanager
def stopping(kept: str) -> Iterator[None]:
    """After Ctrl-C say in one line what is kept and what the same command does then."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"stopped: {kept}", err=True)
        raise
