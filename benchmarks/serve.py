"""The server under load from another process: throughput, latency, errors, memory.

A server with default settings (at most 32 requests at once, batches of up to 64 items that wait for
2 ms) on the model of the preset `scenes` and a store of 1,000 images. A second process runs 1, 8
and 64 clients, each of which sends its next request when the last one is answered: search by words,
energy of an uploaded image with a text, embedding of a text, in turn. Beyond 32 at once the
server answers 429, and a client waits for the second that Retry-After names; any other status but
200 is an error and ends the benchmark with exit status 1. Both processes share the machine's cores.

    python benchmarks/serve.py [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import quantiles
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from record import RESULTS, write_record
from serving.server import make_run, make_store, resident, serving

CLIENTS = (1, 8, 64)


def measure(address: str, clients: int, seconds: float, image: Path) -> dict[str, Any]:
    """Figures of one load. Latencies are those of answers of status 200, in milliseconds."""
    before = resident(address)
    done = subprocess.run(
        [sys.executable, "-m", "serving.load", address, str(clients), str(seconds), str(image)],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    cuts = quantiles(sorted(found["latencies"]), n=100)
    return {
        "clients": clients,
        "seconds": seconds,
        "requests_per_second": len(found["latencies"]) / seconds,
        "p50_ms": 1000 * cuts[49],
        "p99_ms": 1000 * cuts[98],
        "statuses": found["statuses"],
        "errors": sum(n for s, n in found["statuses"].items() if s not in ("200", "429")),
        "resident_before": before,
        "resident_after": resident(address),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 s a load instead of 60")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/serve.json")
    options = parser.parse_args()
    seconds, items = (3.0, 60) if options.quick else (60.0, 1000)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store, run = make_store(root, items), make_run(root)
        with serving(run, store) as address:
            image = root / "images" / "0.jpg"
            measure(address, 4, 2.0, image)  # caches and allocators reach their size
            loads = [measure(address, clients, seconds, image) for clients in CLIENTS]
    for one in loads:
        print(
            f"{one['clients']:>3} clients: {one['requests_per_second']:6.1f} requests/s,"
            f" p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms, {one['statuses']}, memory"
            f" {one['resident_before'] / 1e6:.0f} → {one['resident_after'] / 1e6:.0f} MB"
        )
    payload = {
        "seeds": [0],
        "items": items,
        "load_average_at_end": list(os.getloadavg()),
        "loads": loads,
        "errors": sum(one["errors"] for one in loads),
    }
    out = options.out or (RESULTS / "serve.quick.json" if options.quick else None)
    print(f"written to {write_record('serve', payload, out)}")
    return 1 if payload["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
