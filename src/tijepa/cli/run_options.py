"""What the verbs on a trained run share: the argument RUN, their options, how they are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["RUN", "checkpoint_option", "run_argument", "stopping", "threads_option"]

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
