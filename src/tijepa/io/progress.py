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


class TrainingReporter:
    """Told what happens while a run trains; this one keeps it to itself."""

    def __enter__(self) -> TrainingReporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stepped(self, step: int) -> None:
        """A step was made; no number is read from the device for this."""

    def trained(self, record: dict[str, Any]) -> None:
        """A training record was read."""

    def evaluating(self) -> None:
        """The next seconds go into an evaluation."""

    def evaluated(self, record: dict[str, Any]) -> None:
        """An evaluation on held-out pairs ended."""

    def rolled_back(self, from_step: int, to_step: int, rollbacks: int) -> None:
        """The run went back to a healthy checkpoint, for the `rollbacks`-th time."""


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

    def training(self, steps: int, start: int) -> TrainingReporter:
        """Training runs from step `start` to `steps`; gives what is told on the way."""
        return TrainingReporter()

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
