"""How fast pairs become batches: ours against `webdataset` and `datasets`, both with Pillow.

Random resized crops of 224 pixels (scale 0.9 to 1.0) of JPEGs of 500 x 375 pixels that the script
makes, with one caption tokenized by the same tokenizer, one worker, one torch thread. Contestants
take turns in an order that rotates; figures are medians over the rounds. Processor seconds count
all threads, so pairs per processor second are what one core does; `ratio_to_best_peer` is ours over
the better peer by that measure. All crop a share of the image's largest square.

Then a short training on the scenes, as `tijepa demo` runs it: `data_wait_share` is the median share
of a step that is spent waiting for data.

    python benchmarks/loader.py [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tijepa.io.progress import SILENT

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from loading.ours import load_ours, write_pairs
from loading.peers import load_datasets, load_webdataset, write_datasets, write_tars
from loading.photos import HEIGHT, QUALITY, WIDTH, make_photos
from record import RESULTS, write_record
from tijepa.config import load_config
from tijepa.data.tokenizer import Tokenizer
from tijepa.training import train

BATCH = 64
PEERS = ("webdataset", "datasets")
PACKAGES = ("webdataset", "datasets", "pillow", "simplejpeg", "pylance", "tokenizers")


def race(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, dict[str, Any]]:
    """Pairs per wall second and per processor second of each, one value a round."""
    names = list(contestants)
    raw: dict[str, dict[str, Any]] = {name: {"wall": [], "processor": []} for name in names}
    for run in contestants.values():
        run()
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            wall, processor = time.perf_counter(), time.process_time()
            pairs = contestants[name]()
            raw[name]["wall"].append(pairs / (time.perf_counter() - wall))
            raw[name]["processor"].append(pairs / (time.process_time() - processor))
    return raw


def wait_shares(steps: int) -> list[float]:
    """Shares of the demo's steps spent waiting for data, one for each ten steps after the first."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            "scenes",
            overrides=[
                f"optim.steps={steps}",
                "log.every=10",
                f"log.eval_every={steps}",
                f"log.save_every={steps}",
                "log.tensorboard=false",
                "data.eval_items=50",
                "data.test_items=50",
            ],
        )
        run = train(config, Path(folder) / "run", reporter=SILENT)
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record["data_wait"] for record in records if record["kind"] == "train"][1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer images, rounds and steps")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/loader.json")
    options = parser.parse_args()
    count, rounds, steps = (128, 2, 30) if options.quick else (512, 9, 200)
    torch.set_num_threads(1)
    photos = make_photos(count)
    tokenizer = Tokenizer.train((text for photo in photos for text in photo.captions), 4096)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = write_pairs(photos, root / "pairs.lance")
        tars = write_tars(photos, root / "tars")
        write_datasets(photos, root / "datasets")

        def ours(threads: int) -> Callable[[], int]:
            return lambda: load_ours(
                source, tokenizer, count // BATCH, batch_size=BATCH, threads=threads
            )

        raw = race(
            {
                "tijepa": ours(0),
                "webdataset": lambda: load_webdataset(tars, tokenizer, batch_size=BATCH),
                "datasets": lambda: load_datasets(root / "datasets", tokenizer, batch_size=BATCH),
            },
            rounds,
        )
        threaded = race({str(threads): ours(threads) for threads in (1, 2)}, min(rounds, 5))
    torch.set_num_threads(os.cpu_count() or 1)
    waits = wait_shares(steps)

    measures = {
        kind: {name: median(values[kind]) for name, values in raw.items()}
        for kind in ("processor", "wall")
    }
    ratios = {kind: by["tijepa"] / max(by[peer] for peer in PEERS) for kind, by in measures.items()}
    payload = {
        "seeds": [0],
        "images": {
            "count": count,
            "width": WIDTH,
            "height": HEIGHT,
            "jpeg_quality": QUALITY,
            "mean_bytes": fmean(len(photo.jpeg) for photo in photos),
        },
        "batch_size": BATCH,
        "packages": {name: version(name) for name in PACKAGES},
        "ratio_to_best_peer": ratios["processor"],
        "ratio_to_best_peer_by_wall_time": ratios["wall"],
        "pairs_per_processor_second": measures["processor"],
        "pairs_per_second": measures["wall"],
        "pairs_per_second_by_threads": {
            threads: median(values["wall"]) for threads, values in threaded.items()
        },
        "data_wait_share": median(waits),
        "raw": {"rounds": raw, "by_threads": threaded, "data_wait": waits},
    }
    for name, rate in measures["processor"].items():
        print(f"{name:<12} {rate:7.0f} pairs/s a core, {measures['wall'][name]:7.0f} by the clock")
    print(f"ours / better peer: {ratios['processor']:.2f} ({ratios['wall']:.2f} by the clock)")
    print(f"waiting for data: {100 * median(waits):.2f} % of the demo's step")
    out = options.out or (RESULTS / "loader.quick.json" if options.quick else None)
    print(f"written to {write_record('loader', payload, out)}")


if __name__ == "__main__":
    main()
