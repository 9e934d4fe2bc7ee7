"""What the command line shows of work that reports: lines, spinners and bars of rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tijepa.cli.options import in_flags
from tijepa.io.formatting import duration, printable
from tijepa.io.progress import Reporter

BAR = 24  # columns of a bar
_EVERY = 0.1  # seconds between two updates of a bar
_SILENT_FOR = 2.0  # seconds without a line, at most, while work is young


def print_line(console: Console, line: str | Text) -> None:
    """One line as it is: not wrapped, brackets in paths left alone, no control character obeyed."""
    shown = printable(line) if isinstance(line, str) else line
    console.print(shown, highlight=False, markup=False, soft_wrap=True)


class ConsoleReporter(Reporter):
    """Reports to a terminal, and in plain lines to a file or pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()

    def say(self, text: str) -> None:
        """Print one line, with settings as the flags that give them."""
        print_line(self.console, in_flags(text))

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """Show `text` while the block runs: a spinner on a terminal, one plain line elsewhere."""
        if self.console.is_terminal:
            with self.console.status(Text(printable(text))):
                yield
        else:
            self.say(f"{text} …")
            yield

    @contextmanager
    def bar(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal; elsewhere a line after two seconds, and ever rarer ones later."""
        if not self.console.is_terminal:
            self.say(f"{text} …")
            yield _Lines(self.say, text, total).advance
            return
        words = TextColumn("{task.description}", markup=False)
        with progress(self.console, words, BarColumn(BAR), MofNCompleteColumn()) as bar:
            task = bar.add_task(printable(text), total=total)
            done, shown = 0, time.monotonic()

            def advance(count: int) -> None:
                nonlocal done, shown
                done += count
                now = time.monotonic()
                if now - shown > _EVERY:  # updating takes far longer than counting
                    bar.update(task, completed=done)
                    shown = now

            yield advance

    def results(self, results: Any, run_dir: Path | None) -> None:
        """The table of retrieval, the verdict, and where the report lies."""
        from tijepa.cli.tables import print_summary

        print_summary(self.console, results, run_dir)


class _Lines:
    """How far counted work is, in plain lines: for a file or a pipe, which keeps all of them."""

    def __init__(self, say: Callable[[str], None], text: str, total: int | None) -> None:
        self._say, self._text, self._total = say, text, total
        self._done, self._began = 0, time.monotonic()
        self._next = _SILENT_FOR

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        took = time.monotonic() - self._began
        if took < self._next:
            return
        self._next = took + max(_SILENT_FOR, took / 10)
        of = left = ""
        if self._total is not None:
            of = f" of {self._total:,}"
            if self._done:
                left = f", {duration(took * max(0, self._total / self._done - 1))} left"
        self._say(f"{self._text} {self._done:,}{of}{left}")


def progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A live line of `columns` and the time that is left; nothing where there is no terminal."""
    return Progress(
        *columns,
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
