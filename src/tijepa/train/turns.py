"""How long one Python thread may keep the others waiting."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["short_turns"]


@contextmanager
def short_turns(seconds: float = 5e-4) -> Iterator[None]:
    """Let threads take turns after half a millisecond instead of Python's five.

    A loader thread that makes items in Python (the scenes) otherwise keeps the lock for five
    milliseconds whenever the training thread asks for the next batch, which lies ready: 2.5 % of
    the demo's step, and 0.7 to 1.0 % with short turns (docs/log.md).
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
