"""What the terminal shows while a source is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["watched"]

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
