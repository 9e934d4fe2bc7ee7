from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

import tijepa
from tijepa.cli.app import app
from tijepa.cli.options import FLAGS, in_flags


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("name another `out`", "name another --out"),
        ("say `append=True`, or", "say --append, or"),
        ("`tune=text` goes not with `side=image`", "--finetune text goes not with --on image"),
        ("evaluate with `data=my photos`", "evaluate with --data my photos"),
        ("set `max_bad` (data.max_bad) to 1", "set --max-bad (data.max_bad) to 1"),
        ("the caption is `x`, `y=1`", "the caption is `x`, `y=1`"),
    ],
)  # fmt: skip
def test_settings_are_written_as_flags(message: str, shown: str) -> None:
    assert in_flags(message) == shown


def _flags_of(command: click.Command) -> set[str]:
    own = {flag for parameter in command.params for flag in parameter.opts}
    if isinstance(command, click.Group):
        own = own.union(*map(_flags_of, command.commands.values()))
    return own


def test_every_flag_is_one_of_a_verb() -> None:
    assert set(FLAGS.values()) <= _flags_of(app)


def test_every_setting_that_an_error_names_has_its_flag() -> None:
    """All that is raised outside the command line with a name in backticks."""
    root = Path(tijepa.__file__).parent
    named = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                said = ast.unparse(node.exc)
                named |= {name for name, _ in re.findall(r"`([a-z]\w*)(=[^`]*)?`", said)}
    assert {"out", "max_bad"} <= named <= set(FLAGS)
