"""Both towers at once: on a CPU, two encoders on half the cores each beat one after the other.

The towers meet only in what the objective compares, so their forward and backward passes do not
depend on each other. Results are those of one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["both"]

A = TypeVar("A")
B = TypeVar("B")


def both(first: Callable[[], A], second: Callable[[], B], *, threads: int) -> tuple[A, B]:
    """The results of both, at once on `threads` threads of torch each; 0 runs one after the other.

    Grad mode and autocast belong to a thread: whoever needs them enters them inside. An error of
    either is raised after both have ended.
    """
    if not threads:
        return first(), second()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    other = _pool(threads).submit(second)
    try:
        mine = first()
    finally:
        other.exception()  # waits, raises nothing
        torch.set_num_threads(before)
    return mine, other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        1, "tijepa-tower", initializer=torch.set_num_threads, initargs=(threads,)
    )
