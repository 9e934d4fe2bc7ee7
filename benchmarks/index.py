"""Search by energy among a million images: build time, latency, recall and memory.

The joint embeddings are synthetic: a mixture of Gaussians with the spectrum of a trained model's
(`joint/`), 162 numbers each, on disk. `recall_at_10` and the latencies (`p50_ms`, `p99_ms`, one
query at a time, exact energies of the candidates included) are those of the inverted lists that
`tijepa index` makes, on texts that neither the lists nor the choice of how many to search have
seen. Beside them: exact search, conditions that one in a hundred or every second row meets, and, on
a tenth of the rows, other kinds of index that faiss has.

    python benchmarks/index.py [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray

from joint import texts_of, write_images
from record import RESULTS, write_record
from tijepa.search.exact import exact_search, rerank
from tijepa.search.ivf import EXACT_UP_TO, Lists, as_asked, as_points, need_faiss, point_floor

K = 10
TARGET = 0.98

Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def timed(search: Search, queries: NDArray[np.float32]) -> dict[str, Any]:
    """Milliseconds a query, one at a time, by clock and by processor; and what was found."""
    wall, processor, found = [], [], []
    for query in queries:
        start, used = time.perf_counter(), time.process_time()
        found.append(search(query[None])[0, :K])
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - used))
    return {
        "p50_ms": float(np.median(wall)),
        "p99_ms": float(np.quantile(wall, 0.99)),
        "processor_ms": float(np.median(processor)),
        "found": found,
        "raw_ms": [round(x, 3) for x in wall],
    }


def recall(found: list[NDArray[np.int64]], exact: NDArray[np.int64]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)])
    )


def building(make: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, processor = time.perf_counter(), time.process_time()
    made = make()
    return made, {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }


def resident() -> int:
    """Bytes of memory of this process now; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def kinds(
    images: NDArray[np.float32], queries: NDArray[np.float32], lists: int
) -> dict[str, dict[str, Any]]:
    """Other kinds of index on the same points: the fewest probes that reach the target."""
    faiss = need_faiss()
    floor = point_floor(images, "calibrated", "images")
    points = as_points(images, "calibrated", "images", floor)
    asked = as_asked(queries, "calibrated")
    exact = exact_search(images, queries, K).positions
    width, codes = points.shape[1], faiss.ScalarQuantizer

    def ivf(quantizer: int | None) -> Any:
        coarse = faiss.IndexFlatL2(width)
        if quantizer is None:
            index = faiss.IndexIVFFlat(coarse, width, lists, faiss.METRIC_L2)
        else:
            index = faiss.IndexIVFScalarQuantizer(coarse, width, lists, quantizer, faiss.METRIC_L2)
        index.cp.max_points_per_centroid, index.cp.niter = 64, 10
        index.train(points)
        index.add(points)
        return index

    def inner() -> Any:
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(images.shape[1]), images.shape[1], lists, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.max_points_per_centroid, index.cp.niter = 64, 10
        index.train(np.array(images))
        index.add(np.array(images))
        return index

    def graph() -> Any:
        index = faiss.IndexHNSWFlat(width, 16)
        index.hnsw.efConstruction = 40
        index.add(points)
        return index

    tried = {
        "lists of float32": (lambda: ivf(None), asked, "nprobe"),
        "lists of 8 bits": (lambda: ivf(codes.QT_8bit), asked, "nprobe"),
        "lists of float32, inner product": (inner, queries, "nprobe"),
        "HNSW of 16 neighbours": (graph, asked, "efSearch"),
    }
    table: dict[str, dict[str, Any]] = {}
    for name, (make, rows, dial) in tried.items():
        index, cost = building(make)
        for setting in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            setattr(index.hnsw if dial == "efSearch" else index, dial, setting)

            def search(query: NDArray[np.float32], index: Any = index) -> NDArray[np.int64]:
                return np.asarray(index.search(query, 4 * K)[1])

            candidates = np.concatenate([search(row[None]) for row in rows])
            reached = recall(list(rerank(images, queries, candidates, K).positions), exact)
            if reached >= TARGET or setting == 256:
                break
        figures = timed(search, rows)
        table[name] = {
            **{f"build_{key}": value for key, value in cost.items()},
            dial: setting,
            "recall_at_10": reached,
            "bytes": len(faiss.serialize_index(index)),
            **{key: figures[key] for key in ("p50_ms", "processor_ms")},
        }
        print(f"{name:<34}", table[name])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20,000 rows in place of a million")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/index.json")
    options = parser.parse_args()
    count, asked = (20_000, 100) if options.quick else (1_000_000, 400)
    cores = min(2, os.cpu_count() or 1)
    torch.set_num_threads(cores)
    need_faiss().omp_set_num_threads(cores)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "images.f32", count, seed=0)
        texts = texts_of(images, 512 + asked, seed=0)
        held = np.random.default_rng(3).permutation(len(texts))
        known, queries = texts[held[:512]], texts[held[512:]]

        lists, build = building(lambda: Lists.build(images, known, "calibrated", "images"))
        path = Path(folder) / "images.lists"
        lists.save(path)
        size = path.stat().st_size
        before = resident()
        lists = Lists.open(path, lists.card, "calibrated", count)
        memory = resident() - before
        print(f"built in {build}, {lists.card}, {size:,} bytes")

        truth = exact_search(images, queries, K).positions

        def by_lists(allowed: NDArray[np.int64] | None = None) -> Search:
            return lambda q: rerank(images, q, lists.search(images, q, K, allowed), K).positions

        by_lists()(queries[:50])
        found = timed(by_lists(), queries)
        few = queries[: max(10, asked // 10)]
        exact = timed(lambda q: exact_search(images, q, K).positions, few)
        conditions = {}
        for name, share in (("one in a hundred", 0.01), ("every second row", 0.5)):
            allowed = np.flatnonzero(np.random.default_rng(4).random(count) < share)
            true = exact_search(images, few, K, allowed).positions
            if len(allowed) <= EXACT_UP_TO:
                way, how = "exact", lambda q, a=allowed: exact_search(images, q, K, a).positions
            else:
                way, how = "lists", by_lists(allowed)
            figures = timed(how, few)
            conditions[name] = {
                "way": way,
                "recall_at_10": recall(figures["found"], true),
                "p50_ms": figures["p50_ms"],
                "processor_ms": figures["processor_ms"],
            }
        part = count // 10
        table = kinds(
            np.array(images[:part]), texts_of(images[:part], 200, 5), round(4 * part**0.5)
        )

    payload = {
        "seeds": [0],
        "vectors": count,
        "numbers": images.shape[1],
        "cores": cores,
        "load_average": os.getloadavg()[0],
        "packages": {"faiss-cpu": version("faiss-cpu")},
        "recall_at_10": recall(found["found"], truth),
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "processor_ms": found["processor_ms"],
        "build_seconds": build["seconds"],
        "build_processor_seconds": build["processor_seconds"],
        "bytes_of_lists": size,
        "memory_of_lists": memory,
        "bytes_of_rows_on_disk": 4 * images.shape[1] * count,
        "card": lists.card.__dict__,
        "exact": {key: exact[key] for key in ("p50_ms", "p99_ms", "processor_ms")},
        "conditions": conditions,
        "kinds_on_a_tenth": table,
        "raw": {"lists_ms": found["raw_ms"], "exact_ms": exact["raw_ms"]},
    }
    print(
        f"{count:,} rows: recall at 10 {payload['recall_at_10']:.4f}, p50 {found['p50_ms']:.2f} ms,"
        f" p99 {found['p99_ms']:.2f} ms; exact p50 {exact['p50_ms']:.1f} ms; {conditions}"
    )
    out = options.out or (RESULTS / "index.quick.json" if options.quick else None)
    print(f"written to {write_record('index', payload, out)}")


if __name__ == "__main__":
    main()
