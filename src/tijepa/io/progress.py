"""What the terminal shows while a source is read."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Interrupt", "phase", "say", "watched"]

_EVERY = 0.1  # seconds


@contextmanager
def watched(console: Console, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, one line elsewhere; gives the function to call with what was done."""
    if not console.is_terminal:
        console.print(f"{text} …", highlight=False, markup=False, soft_wrap=True)
        yield lambda count: None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(text, total=total)
        done, shown = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if now - shown > _EVERY:  # updating takes far longer than counting
                bar.update(task, completed=done)
                shown = now

        yield advance


# Lines for the terminal, and what it shows while something takes long.


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


# Ctrl-C without loss: the first one asks the loop to stop, the second stops at once.


class Interrupt:
    """While entered, SIGINT and SIGTERM set `requested`; a second one raises `KeyboardInterrupt`.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
