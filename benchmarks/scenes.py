"""How many scenes are rendered a second, pictures of 64 px with their five captions.

    python benchmarks/scenes.py [--quick] [--processes 2] [--out FILE]

Every process renders its own items; the figure is pictures per second of all of them together.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from record import RESULTS, write_record
from tijepa.data.scenes import Scenes


def render(start: int, count: int) -> float:
    """Render `count` items and return the processor seconds it took."""
    source = Scenes("train", start + count)
    before = time.process_time()
    for index in range(start, start + count):
        picture = source.read([index])[0].picture
        assert picture is not None
        picture.pixels(64)
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/scenes.json")
    options = parser.parse_args()
    count, repeats = (500, 3) if options.quick else (5000, 5)
    wall, processor = [], []
    with ProcessPoolExecutor(options.processes) as pool:
        list(pool.map(render, range(options.processes), [10] * options.processes))  # warm up
        for repeat in range(repeats):
            starts = [(repeat * options.processes + p) * count for p in range(options.processes)]
            before = time.perf_counter()
            seconds = list(pool.map(render, starts, [count] * options.processes))
            wall.append(options.processes * count / (time.perf_counter() - before))
            processor.append(options.processes * count / sum(seconds))
    payload = {
        "seeds": [0],
        "processes": options.processes,
        "pictures_per_second": median(wall),
        "pictures_per_processor_second": median(processor),
        "raw": {"pictures_per_second": wall, "pictures_per_processor_second": processor},
    }
    print(
        f"{median(wall):.0f} pictures/s with {options.processes} processes, "
        f"{median(processor):.0f} per processor second"
    )
    out = options.out or (RESULTS / "scenes.quick.json" if options.quick else None)
    print(f"written to {write_record('scenes', payload, out)}")


if __name__ == "__main__":
    main()
