"""Lines for the terminal, and what it shows while something takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

__all__ = ["phase", "say"]


def say(console: Console, text: str) -> None:
    """Print one line as it is: not wrapped, not coloured, brackets in paths left alone."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def phase(console: Console, text: str) -> Iterator[None]:
    """Show `text` while the block runs: a spinner on a terminal, one plain line elsewhere."""
    if console.is_terminal:
        with console.status(Text(text)):
            yield
    else:
        say(console, f"{text} …")
        yield
