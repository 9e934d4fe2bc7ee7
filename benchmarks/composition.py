"""New combinations and false captions: tijepa beside CLIP on scenes.

Models as in `pointing.py` (shared where both have run), on the test split and on the novel split,
whose every scene holds a combination of colour and shape that training never showed:

- retrieval: recall at 1 of 500, mean of both directions;
- hard negatives: how often the true caption has less energy than one made false by exchanging
  attributes, by the opposite predicate, or by exchanging subject and object (chance 50 %).

    python benchmarks/composition.py [--quick] [--seeds 3] [--steps N] [--processes 2]
        [--runs DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from record import RESULTS, write_record
from tijepa.data.scenes import Scenes
from tijepa.evaluate.hard_negatives import hard_negatives
from tijepa.evaluate.model import evaluation_set, measure
from trained import OBJECTIVES, Kept, train_all

PATCH = 8
STEPS = 3000
RETRIEVED = 500
ASKED = 2000
SPLITS = ("test", "novel")


def judge(run: Kept, retrieved: int, asked: int) -> dict[str, dict[str, float]]:
    """Recall at 1 and the accuracy of each kind of hard negative, on both splits."""
    embedder = run.embedder()
    found: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        scenes = Scenes(split, max(retrieved, asked), distinct=True)
        data = evaluation_set(scenes, items=retrieved, captions=1, image_size=64)
        retrieval = measure(embedder, data).results["retrieval"]
        recalls = [retrieval[way]["recall_at_1"] for way in ("image_to_text", "text_to_image")]
        of_kind = hard_negatives(embedder, scenes, asked)
        found[split] = {
            "recall_at_1": fmean(recalls),
            **{kind: result.accuracy for kind, result in of_kind.items()},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: the figures mean nothing"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/composition.json")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    retrieved, asked = (20, 20) if options.quick else (RETRIEVED, ASKED)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.quick else options.runs
        steps, patch = (6, 16) if options.quick else (options.steps, PATCH)
        runs = {
            name: [Kept(name, seed, steps, patch, folder) for seed in seeds] for name in OBJECTIVES
        }
        train_all([run for of_one in runs.values() for run in of_one], options.processes)
        torch.set_num_threads(1)
        raw = {name: [judge(run, retrieved, asked) for run in of] for name, of in runs.items()}
        configuration = {name: of[0].configuration().to_yaml() for name, of in runs.items()}

    payload: dict[str, Any] = {"seeds": list(seeds), "steps": steps, "asked": asked}
    for name, judged in raw.items():
        for split in SPLITS:
            for key in judged[0][split]:
                shares = [one[split][key] for one in judged]
                mean, low, high = fmean(shares), min(shares), max(shares)
                row = payload.setdefault(name, {}).setdefault(split, {})
                row[key] = {"mean": mean, "range": [low, high]}
                print(
                    f"{name:>7} {split:>5} {key:<12} {100 * mean:5.1f} %"
                    f" ({100 * low:.1f} to {100 * high:.1f} %)"
                )
    payload |= {"raw": raw, "configuration": configuration}
    out = options.out or (RESULTS / "composition.quick.json" if options.quick else None)
    print(f"written to {write_record('composition', payload, out)}")


if __name__ == "__main__":
    main()
