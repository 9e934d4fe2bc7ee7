"""The command `tijepa`: its verbs, and what becomes of every error.

Exit codes: 0 done; 1 a bug of tijepa, or data that the doctor finds unfit; 2 the user can mend
it; 3 the collapse guard stopped the run; 130 interrupted. Whatever goes wrong is one line on
stderr. Modules that take long to import are imported inside the verbs, so that help is instant.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from tijepa.cli.classify import classify, probe
from tijepa.cli.doctor import doctor
from tijepa.cli.evaluate import compare, evaluate, explain
from tijepa.cli.filter import filter_, pair
from tijepa.cli.index import embed, index, search
from tijepa.cli.options import in_flags
from tijepa.cli.prepare import prepare
from tijepa.cli.serve import export, serve
from tijepa.cli.train import demo, presets, sweep, train
from tijepa.errors import CollapseError, TijepaError
from tijepa.io.files import remedy_of
from tijepa.io.formatting import printable
from tijepa.version import __version__

WORKFLOW: dict[str, tuple[click.Command, ...]] = {
    "data": (doctor, prepare, filter_, pair),
    "train": (demo, presets, train, sweep),
    "look": (evaluate, compare, explain, probe),
    "use": (index, search, embed, classify, serve, export),
}
_QUICK = (presets,)  # import nothing that takes long
_READ = ("config", "run", "runs", "data", "source", "store", "image", "prompts")


class _Verbs(click.Group):
    """Its help names the verbs by workflow and its few options in the last line, to fit a screen.

    A verb says at once what it reads: importing torch takes seconds.
    """

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(cmd, name)
        verbs = cmd.commands.values() if isinstance(cmd, click.Group) else (cmd,)
        for verb in verbs:
            if verb not in _QUICK and verb.callback is not None:
                verb.callback = _heard(verb.callback)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (f"{'' if place else group:<6} {verb.name}", verb.get_short_help_str(100))
            for group, verbs in WORKFLOW.items()
            for place, verb in enumerate(verbs)
        ]
        with formatter.indentation():
            formatter.write_paragraph()
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.indentation():
            formatter.write_text(self.epilog or "")


def _heard(callback: Callable[..., Any]) -> Callable[..., Any]:
    """`callback` after a line on stderr: what was given to read, in the order of the work."""

    @wraps(callback)
    def verb(*arguments: Any, **given: Any) -> Any:
        named = [f"preset {given['preset']}"] if given.get("preset") else []
        for name in (*_READ, "out") if given.get("resume") else _READ:
            value = given.get(name) or ()
            named += map(str, value if isinstance(value, tuple) else (value,))
        click.echo(f"reading   {printable(', '.join(named) or 'the settings')}", err=True)
        return callback(*arguments, **given)

    return verb


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Each verb: tijepa train --help. Also --version, --debug, --plugin PACKAGE.",
)
@click.version_option(__version__, prog_name="tijepa", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
@click.option("--plugin", metavar="PACKAGE", expose_value=False, help="Import what it registers.")
@click.pass_context
def app(context: click.Context) -> None:
    """Align text and images by prediction in latent space, without negatives."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _verb in (verb for verbs in WORKFLOW.values() for verb in verbs):
    app.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Idle OpenMP threads shall sleep unless the environment says otherwise: where they spin a step
    takes several times as long on a busy machine, and about as long on a quiet one (docs/log.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch, not imported yet, reads it once
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given  # before or after the verb, and also for errors of the parser
    given = [argument for argument in given if argument != "--debug"]
    given, packages = _without_plugins(given)
    try:
        if packages:
            from tijepa.registry import load_plugins

            load_plugins(packages, keep=True)
        result = app.main(given, prog_name="tijepa", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tijepa"
        return _fail(f"{error.format_message()} See: {path} --help", 2, debug)
    except click.ClickException as error:
        return _fail(error.format_message(), 2, debug)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except CollapseError as error:
        return _fail(str(error), 3, debug)
    except TijepaError as error:
        return _fail(str(error), 2, debug)
    except Exception as error:  # noqa: BLE001  the outermost frame: nothing is swallowed
        known = machine_problem(error)
        if known is not None:
            return _fail(known, 2, debug)
        kind = type(error).__name__
        return _fail(
            f"{kind}: {error} (a bug of tijepa; the traceback: the same command with --debug)",
            1,
            debug,
        )
    return result if isinstance(result, int) else 0


def _without_plugins(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without `--plugin PACKAGE`, wherever it stands, and the packages."""
    rest: list[str] = []
    packages: list[str] = []
    arguments = iter(given)
    for argument in arguments:
        option, separator, package = argument.partition("=")
        if argument == "--":
            return [*rest, argument, *arguments], packages
        if option != "--plugin":
            rest.append(argument)
        elif separator:
            packages.append(package)
        else:
            following = next(arguments, None)
            if following is None:
                return [*rest, argument], packages  # the parser says what is missing
            packages.append(following)
    return rest, packages


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo("error: " + printable(" ".join(in_flags(message).split())), err=True)
    return code


# Errors of the machine that the user can mend, in words: disks and memory.


# of torch's allocators on CPU (Linux, Windows and macOS) and on GPUs
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
_ASKED = re.compile(r"allocate ([\d.]+ ?(?:bytes|[KMGT]iB))")
_LESS_MEMORY = (
    "a run needs less with a larger optim.accumulate, compute.gradient_checkpointing=true, a"
    " smaller optim.batch_size or a smaller model"
)


def machine_problem(error: BaseException) -> str | None:
    """One line that names what is wrong and the remedy; None where it may be a bug."""
    if isinstance(error, OSError) and error.errno != errno.ENOENT:
        remedy = remedy_of(error)
        path = f"{error.filename}: " if error.filename else ""
        return f"{path}{error.strerror}; {remedy}" if remedy else None
    said = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(said)
    ):
        asked = _ASKED.search(said)
        wanted = f" ({asked[1]} were asked for at once)" if asked else ""
        return f"out of memory{wanted}; {_LESS_MEMORY}"
    return None
