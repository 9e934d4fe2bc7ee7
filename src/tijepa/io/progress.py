"""What long work tells whoever asked for it, and Ctrl-C without loss."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class Reporter:
    """Told of lines, phases and counts of work that takes long; this one keeps them to itself.

    The command line shows them on a terminal; whoever calls from Python may pass an object that
    overrides what it wants to know.
    """

    def say(self, text: str) -> None:
        """One line on what was done."""

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """The block takes a while, for the reason `text`."""
        yield

    @contextmanager
    def bar(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """The block works through `total` things; gives the function to call with what was done."""
        yield lambda count: None

    def results(self, results: Any, run_dir: Path | None) -> None:
        """A run ended with these `RunResults`; `run_dir` holds its report."""


SILENT = Reporter()


class StderrReporter(Reporter):
    """Counts on stderr, one line that is written over: for whoever asks for progress in Python."""

    @contextmanager
    def bar(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `Reporter.bar`."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            end = "" if total is None else f"/{total:,}"
            sys.stderr.write(f"\r{text} {done:,}{end}")
            sys.stderr.flush()

        try:
            yield advance
        finally:
            sys.stderr.write("\n")


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

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None is a handler that was not installed from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
