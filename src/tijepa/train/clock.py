"""What a training record says of time: pairs, seconds, and the share spent waiting for data."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Time and pairs since the last record, and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, after a record or whatever a record should not count."""
        self.pairs = 0
        self.waited = 0.0
        self.start = time.perf_counter()

    def waiting(self) -> _Waiting:
        """A context whose time counts as waiting for data."""
        return _Waiting(self)

    @property
    def elapsed(self) -> float:
        """Seconds since the last restart, never 0."""
        return max(1e-9, time.perf_counter() - self.start)


class _Waiting:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.waited += time.perf_counter() - self._start
