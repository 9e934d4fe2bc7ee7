"""What the server counts, as Prometheus reads it; kept by the event loop's thread."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Metrics:
    """What the server has done since it started; every name begins with `tijepa_`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        own = self.registry = CollectorRegistry()
        self._requests = Counter(
            "tijepa_requests",
            "Answers by method, route and status.",
            ("method", "route", "status"),
            registry=own,
        )
        self._seconds = Histogram(
            "tijepa_request_seconds",
            "From request to last byte of its answer.",
            ("route",),
            registry=own,
            buckets=SECONDS,
        )
        self._batches = Histogram(
            "tijepa_batch_items",
            "Images and texts of one forward pass.",
            registry=own,
            buckets=ITEMS,
        )
        self.running = Gauge(
            "tijepa_running_requests", "Requests that are being answered.", registry=own
        )
        self._waiting = Gauge(
            "tijepa_waiting_items", "Images and texts that wait for the model.", registry=own
        )
        if resident_bytes() is not None:
            memory = Gauge("tijepa_resident_bytes", "Memory of the process.", registry=own)
            memory.set_function(lambda: resident_bytes() or 0)
        self._items: Gauge | None = None
        self.answers = 0

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is a template such as /items/{row}, of which there are few."""
        self.answers += 1
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, items: int) -> None:
        """Count one forward pass of so many images and texts."""
        self._batches.observe(items)

    def exposition(self, *, waiting: int, items: int | None) -> str:
        """The page that Prometheus reads; `waiting` for the model, `items` of the index."""
        self._waiting.set(waiting)
        if items is not None:
            self._items = self._items or Gauge(
                "tijepa_index_items", "Items that can be found by search.", registry=self.registry
            )
            self._items.set(items)
        return generate_latest(self.registry).decode()


def resident_bytes() -> int | None:
    """Bytes of this process in memory; None where the system has no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
