"""How many scenes are rendered a second, images of 64 px with their five captions.

    python benchmarks/scenes.py [--quick] [--processes 2] [--out FILE]

Every process renders its own items; the figure is images per second of all of them together.
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
        image = source.read([index])[0].image
        assert image is not None
        image.pixels(64)
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images")
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
        "images_per_second": median(wall),
        "images_per_processor_second": median(processor),
        "raw": {"images_per_second": wall, "images_per_processor_second": processor},
    }
    print(
        f"{median(wall):.0f} images/s with {options.processes} processes, "
        f"{median(processor):.0f} per processor second"
    )
    out = options.out or (RESULTS / "scenes.quick.json" if options.quick else None)
    print(f"written to {write_record('scenes', payload, out)}")


if __name__ == "__main__":
    main()
