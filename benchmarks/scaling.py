"""What size costs: preparing, opening, shuffling and the first batches, from 10 thousand rows on.

Rows are tiny JPEGs (16 px, 64 variations) with distinct captions. They go the true way: records,
check, diagnosis, store; then open, order and loader. Each size runs in a process of its own, whose
peak memory is what the system says.

    python benchmarks/scaling.py [--quick] [--rows 10000,100000,1000000,10000000] [--out FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from record import RESULTS, write_record
from tijepa.data import open_splits
from tijepa.data.batches.loader import Loader
from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.prepare import write_store
from tijepa.data.tokenizer import Tokenizer

BATCH = 256
BATCHES = 100
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "grey", "brown")


class Synthetic(Reader):
    """Rows made on the spot: 90 % train, 5 % validation, 5 % test."""

    name = "synthetic"
    layout = "rows made on the spot"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._rows = int(source)
        random = np.random.default_rng(0)
        self._images = [image(random) for _ in range(64)]

    @classmethod
    def recognises(cls, source: str) -> bool:
        return source.isdecimal()

    def __iter__(self) -> Iterator[Record | Rejected]:
        splits = ("validation", "test", *["train"] * 18)
        for row in range(self._rows):
            # a comment behind the end marker makes every file another one, as true files are
            image = self._images[row % 64] + row.to_bytes(4, "big") + b"\xff\xd9"
            caption = f"a {COLOURS[row % 8]} thing beside number {row}"
            yield Record(f"r{row}", f"row {row}", image, (caption,), splits[row % 20])

    def describe(self) -> str:
        return f"{self._rows:,} synthetic rows"

    def fingerprint(self) -> str:
        return str(self._rows)

    def count(self) -> int:
        return self._rows


def image(random: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    small = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    small.resize((16, 16)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def peak() -> float:
    """MiB that this process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(rows: int, folder: Path, threads: int) -> dict[str, Any]:
    before = peak()
    start, processor = time.perf_counter(), time.process_time()
    done = write_store(
        Synthetic(str(rows), ReaderOptions()), str(folder / "s.lance"), threads=threads
    )
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    assert sum(done.added.values()) == rows
    files = [f for f in (folder / "s.lance").rglob("*") if f.is_file()]
    return {
        "prepare_seconds": seconds,
        "prepare_microseconds_per_row": 1e6 * seconds / rows,
        "prepare_processor_microseconds_per_row": 1e6 * processor / rows,
        "prepare_peak_mib": peak(),
        "peak_mib_before": before,
        "store_mib": sum(f.stat().st_size for f in files) / 2**20,
    }


def read(rows: int, folder: Path, threads: int) -> dict[str, Any]:
    tokenizer = Tokenizer.train([f"a {colour} thing beside number 0123" for colour in COLOURS], 300)
    before = peak()
    start = time.perf_counter()
    splits = open_splits(str(folder / "s.lance"), image_size=16, seed=0, max_bad=0.0)
    opened = time.perf_counter() - start
    with Loader(
        splits.split("train"),
        tokenizer,
        batch_size=BATCH,
        image_size=16,
        max_tokens=24,
        seed=0,
        threads=threads,
    ) as loader:
        batches = iter(loader)
        next(batches)
        first = time.perf_counter() - start
        taken = []
        processor = time.process_time()
        for _ in range(BATCHES):
            before_batch = time.perf_counter()
            next(batches)
            taken.append(1000 * (time.perf_counter() - before_batch))
        processor = time.process_time() - processor
    return {
        "open_seconds": opened,
        "first_batch_seconds": first,
        "ms_per_batch_mean": sum(taken) / len(taken),
        "ms_per_batch_median": median(taken),
        "processor_ms_per_batch": 1000 * processor / BATCHES,
        "read_peak_mib": peak(),
        "read_peak_mib_before": before,
    }


def measure(rows: int, threads: int) -> dict[str, Any]:
    """Both parts, each in a process of its own."""
    result: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory(prefix="tijepa-scaling-") as folder:
        for part in ("prepare", "read"):
            command = [sys.executable, __file__, "--part", part, "--rows", str(rows)]
            command += ["--folder", folder, "--threads", str(threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            result.update(json.loads(done.stdout.splitlines()[-1]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: 2,000 rows")
    parser.add_argument("--rows", default="10000,100000,1000000", help="sizes, with commas")
    parser.add_argument("--threads", type=int, default=1, help="of the check and the loader")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/scaling.json")
    parser.add_argument("--part", choices=["prepare", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = {"prepare": prepare, "read": read}[options.part]
        print(json.dumps(part(int(options.rows), options.folder, options.threads)))
        return
    sizes = [2000] if options.quick else [int(rows) for rows in options.rows.split(",")]
    results = []
    for rows in sizes:
        result = measure(rows, options.threads)
        results.append(result)
        print(
            f"{rows:>10,} rows: prepared in {result['prepare_seconds']:.1f} s "
            f"({result['prepare_microseconds_per_row']:.0f} us a row, peak "
            f"{result['prepare_peak_mib']:.0f} MiB), opened in {result['open_seconds']:.2f} s, "
            f"first batch after {result['first_batch_seconds']:.2f} s, "
            f"{result['ms_per_batch_mean']:.1f} ms ({result['processor_ms_per_batch']:.1f} of "
            f"processor) a batch of {BATCH}, peak "
            f"{result['read_peak_mib']:.0f} MiB",
            flush=True,
        )
    payload = {
        "seeds": [0],
        "batch_size": BATCH,
        "batches": BATCHES,
        "threads": options.threads,
        "sizes": results,
    }
    out = options.out or (RESULTS / "scaling.quick.json" if options.quick else None)
    print(f"written to {write_record('scaling', payload, out)}")


if __name__ == "__main__":
    main()
