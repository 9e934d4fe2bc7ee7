"""Counters in the text format of Prometheus, version 0.0.4, kept by the event loop's thread.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["CONTENT_TYPE", "Histogram", "Metrics", "resident_bytes"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """Counts of values up to each bound, their sum and their number."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """Cumulative buckets, sum and count; `labels` as `a="b",` with its comma, or empty."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}le="{bound}"}} {total}'
        own = f"{{{labels.rstrip(',')}}}" if labels else ""
        yield f"{name}_sum{own} {self._sum:.9g}"
        yield f"{name}_count{own} {total}"


class Metrics:
    """What the server has done since it started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()  # method, route, status
        self.running = 0
        self.batches = Histogram(ITEMS)
        self._seconds: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is a template such as /items/{row}, of which there are few."""
        self.requests[method, route, status] += 1
        self._seconds.setdefault(route, Histogram(SECONDS)).add(seconds)

    def batch(self, items: int) -> None:
        """Count one forward pass of so many images and texts."""
        self.batches.add(float(items))

    def exposition(self, *, waiting: int, items: int | None) -> str:
        """The page that Prometheus reads; `waiting` for the model, `items` of the index."""
        return "\n".join(self._lines(waiting, items)) + "\n"

    def _lines(self, waiting: int, items: int | None) -> Iterable[str]:
        yield from _head("requests_total", "counter", "Answers by method, route and status.")
        for (method, route, status), count in sorted(self.requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"tijepa_requests_total{{{labels}}} {count}"
        yield from _head("request_seconds", "histogram", "From request to last byte of its answer.")
        for route, seconds in sorted(self._seconds.items()):
            yield from seconds.lines("tijepa_request_seconds", f'route="{route}",')
        yield from _head("batch_items", "histogram", "Images and texts of one forward pass.")
        yield from self.batches.lines("tijepa_batch_items")
        gauges = [
            ("running_requests", "Requests that are being answered.", self.running),
            ("waiting_items", "Images and texts that wait for the model.", waiting),
            ("resident_bytes", "Memory of the process.", resident_bytes()),
        ]
        if items is not None:
            gauges.append(("index_items", "Items that can be found by search.", items))
        for name, words, value in gauges:
            if value is not None:
                yield from _head(name, "gauge", words)
                yield f"tijepa_{name} {value}"


def resident_bytes() -> int | None:
    """Bytes of this process in memory; None where the system has no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP tijepa_{name} {words}"
    yield f"# TYPE tijepa_{name} {kind}"
