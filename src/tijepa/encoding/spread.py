"""Work in parts on all cores: each part on a core of its own, from bytes to embeddings.

On a CPU this beats one part after the other on all cores: nobody waits for the slowest thread of
every layer, and a core that decodes pictures does so while another multiplies matrices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["spread"]

P = TypeVar("P")
R = TypeVar("R")


def spread(work: Callable[[P], R], parts: Sequence[P], workers: int) -> Iterator[R]:
    """The results of all parts in their order, at most a few of them ahead of who reads them.

    With one worker or one part it runs here, on all threads of torch; else on `workers` threads
    with one thread of torch each. An error of a part is raised in its place, and parts that have
    not begun are dropped. Grad mode and autocast belong to a thread: `work` enters them itself.
    """
    if workers < 2 or len(parts) < 2:
        yield from map(work, parts)
        return

    def alone(part: P) -> R:
        torch.set_num_threads(1)
        return work(part)

    before = torch.get_num_threads()
    pool = _pool(workers)
    begun: deque[Future[R]] = deque()
    try:
        for part in parts:
            begun.append(pool.submit(alone, part))
            if len(begun) > 2 * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        for future in begun:
            if not future.cancelled():
                future.exception()  # waits, raises nothing
        torch.set_num_threads(before)  # the last who sets it decides for all of MKL


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "tijepa-encode")
