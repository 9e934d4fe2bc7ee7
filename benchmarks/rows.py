"""Rows of a search before and after compression: recall, and a million of them on disk.

Heads of tijepa on the frozen features of `frozen.py` (batch 64, ten epochs), every seed. The 1,000
test photos with five captions each are searched by the exact energy, by whole rows in single
precision, and by rows of at most so many numbers in half precision, as an index keeps them. Then a
million rows of such length are written as `tijepa index` writes them: training photos, each moved
by half the difference of two others. With `--search` an index of inverted lists is built on them
and asked by captions of the test split, one at a time; that needs a quiet machine.

    python benchmarks/rows.py [--quick] [--search] [--features FOLDER] [--out FILE]

Needs what `frozen.py` needs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray

import frozen
from features.flickr import keep_features, make_up_features
from grid.job import Job
from grid.training import Training
from index import K, building, recall, timed
from record import RESULTS, write_record
from tijepa.evaluate.retrieval import retrieval
from tijepa.inference.calibration import Calibration
from tijepa.inference.compression import ROW_NUMBERS
from tijepa.inference.embeddings import Embeddings, SearchEnergies
from tijepa.search.exact import exact_search, rerank
from tijepa.search.ivf import Lists, searched
from tijepa.search.vector_store import Chunk, VectorStore

LR, BATCH = 2e-3, 64  # the best on validation (frozen.json)
LENGTHS = (ROW_NUMBERS, 256, 128)
_BLOCK = 50_000
_FORM = "calibrated"


def by_rows(calibration: Calibration, e: Embeddings, *, half: bool) -> SearchEnergies:
    """The energies that a search by rows sees; with `half` what is searched is in half precision"""
    rows = {"images": e.of_images, "texts": e.of_texts}
    whole = {side: calibration.rows(side[:-1], of).numpy() for side, of in rows.items()}  # type: ignore[arg-type]
    found = []
    for side in ("images", "texts"):
        parts = {name: searched(values, _FORM, side) for name, values in whole.items()}  # type: ignore[arg-type]
        if half:
            parts[side] = parts[side].astype(np.float16).astype(np.float32)
        found.append(torch.from_numpy(-2 * parts["images"] @ parts["texts"].T))
    return SearchEnergies(*found)


def figures(energies: SearchEnergies, owner: torch.Tensor) -> dict[str, list[float]]:
    found = retrieval(energies, owner).directions.values()
    return {
        "recall_at_1": [one.recall_at_1 for one in found],
        "recall_at_10": [one.recall_at_10 for one in found],
    }


def measured(training: Training) -> tuple[dict[str, Any], Calibration, Embeddings, Embeddings]:
    """Recalls of a trained run by rows of every length; what made and asked for them."""
    embedder = training.embedder()
    assert embedder.calibration is not None
    pairs, test = training.held.calibration, training.held.held_out["test"]
    e = embedder.embeddings_of_inputs(test.images, test.texts)
    typical = embedder.embeddings_of_inputs(pairs.images, pairs.texts)
    typical = typical.images(pairs.image_of_text)
    whole = replace(embedder.calibration, compression=None)
    table = {
        "exact energy": figures(whole.search_energies(e), test.image_of_text),
        "whole rows": figures(by_rows(whole, e, half=False), test.image_of_text),
    }
    length = whole.rows("image", e.of_images.part(slice(0, 1))).shape[1]
    kept = whole.compressed(typical)
    for numbers in (n for n in LENGTHS if n < length):
        short = kept if numbers == ROW_NUMBERS else whole.compressed(typical, numbers)
        found = figures(by_rows(short, e, half=True), test.image_of_text)
        table[f"{numbers} numbers, half precision"] = found
    return {"numbers": length, "recall": table}, kept, typical, e


def write_rows(folder: Path, rows: NDArray[np.float32], count: int) -> VectorStore:
    """`count` rows like `rows` as an index keeps them; the own terms are those of one of them."""
    generator = np.random.default_rng(0)
    store = VectorStore(folder, rows.shape[1])
    half = rows.shape[1] // 2
    free = np.arange(rows.shape[1]) % half < half - 2
    for start in range(0, count, _BLOCK):
        stop = min(count, start + _BLOCK)
        one, two, three = generator.integers(0, len(rows), (3, stop - start))
        values = rows[one] + (rows[two] - rows[three]) / 2 * free
        numbers = np.arange(start, stop)
        store.append(
            Chunk(start, stop, images=stop),
            {"images": values, "texts": rows[:0]},
            {"images": numbers, "texts": numbers[:0]},
        )
    return store


def search_of(store: VectorStore, texts: NDArray[np.float32]) -> dict[str, Any]:
    """Latency and recall at 10 of the inverted lists of `tijepa index`, among all rows."""
    values = searched(store.vectors("images").values, _FORM, "images")
    queries = np.ascontiguousarray(searched(texts, _FORM, "images"))
    known, asked = queries[::2][:512], queries[1::2][:400]
    lists, build = building(lambda: Lists.build(values, known, _FORM, "images"))
    truth = exact_search(values, asked, K).positions
    found = timed(lambda q: rerank(values, q, lists.search(values, q, K), K).positions, asked)
    return {
        "recall_at_10": recall(found.pop("found"), truth),
        **{key: found[key] for key in ("p50_ms", "p99_ms", "processor_ms")},
        "build_seconds": build["seconds"],
        "card": asdict(lists.card),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    parser.add_argument("--search", action="store_true", help="build lists and time queries")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=Path, default=frozen.FEATURES)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/rows.json")
    options = parser.parse_args()
    seeds, count = (1, 5_000) if options.quick else (options.seeds, options.rows)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="tijepa-benchmark-") as scratch:
        folder = Path(scratch) if options.quick else options.features
        if options.quick:
            make_up_features(folder, 120)
        else:
            keep_features(folder)
        steps = 4 if options.quick else frozen.EPOCHS * frozen.TRAIN // BATCH
        runs = []
        for seed in range(seeds):
            settings = ("model.image.width=384", "model.text.width=384", *frozen.OWN["tijepa"])
            job = Job("tijepa", BATCH, LR, seed, steps, f"{folder}:384:384", settings)
            training = Training(job, frozen.held_of(job, folder), frozen.BASE)
            training.advance(steps)
            found, kept, typical, test = measured(training)
            print(f"seed {seed}: {found}")
            runs.append(found)
        images = kept.rows("image", typical.of_images).float().numpy()
        store = write_rows(Path(scratch) / "index", images, count)
        size = sum(file.stat().st_size for file in store.folder.iterdir())
        asked = kept.rows("text", test.of_texts).float().numpy()
        timing = search_of(store, asked) if options.search or options.quick else None
    table = {
        name: {
            key: [fmean(run["recall"][name][key][k] for run in runs) for k in (0, 1)]
            for key in ("recall_at_1", "recall_at_10")
        }
        for name in runs[0]["recall"]
    }
    payload = {
        "seeds": list(range(seeds)),
        "numbers_before": runs[0]["numbers"],
        "numbers": images.shape[1],
        "recall": table,
        "rows": count,
        "bytes_on_disk": size,
        "bytes_before": 4 * runs[0]["numbers"] * count,
        "search": timing,
        "runs": runs,
    }
    for name, row in table.items():
        print(f"{name:<32}", row)
    print(f"{count:,} rows: {size / 1e9:.2f} GB; {timing}")
    out = options.out or (RESULTS / "rows.quick.json" if options.quick else None)
    print(f"written to {write_record('rows', payload, out)}")


if __name__ == "__main__":
    main()
