"""Does the filter find captions that stand beside the wrong images?

A fifth of the captions is exchanged within each split of Flickr8k (`data/flickr8k` in the folder
that TIJEPA_REAL_DATA names) or of rendered scenes; a model is trained on the noisy pairs by the
preset photos-frozen (on the ViT-Tiny of that folder), or one is given by `--run`; then
`tijepa filter` judges every pair. `roc_auc` is the chance that an exchanged caption has a higher
energy than a right one; `found` says which share of the exchanged ones goes when 1, 5 or 10 % of
the right ones go with them, and `at_keep_0.8` what `--keep 0.8` does. Each split by itself: the
model was trained on the first.

    python benchmarks/filter.py [--data flickr8k|scenes] [--run RUN] [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tijepa.cli.terminal import ConsoleReporter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import tijepa
from noisy import photos_with_noise, scenes_with_noise
from record import RESULTS, write_record
from tijepa.config import load_config
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store
from tijepa.search.filter import filter_store
from tijepa.training import train

NOISE = 0.2
SEED = 0
FROZEN = "photos-frozen"
COSTS = (0.01, 0.05, 0.1)
TINY = [
    "data.image_size=32",
    "data.max_tokens=16",
    "model.image.patch_size=8",
    "model.image.width=16",
    "model.image.depth=1",
    "model.image.heads=2",
    "model.text.width=16",
    "model.text.depth=1",
    "model.text.heads=2",
    "model.embed_dim=8",
    "model.head.hidden=16",
    "optim.steps=40",
    "optim.batch_size=32",
    "log.every=10",
    "log.eval_every=40",
    "log.save_every=40",
    "log.tensorboard=false",
]


def roc(wrong: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[list[list[float]], float]:
    """(share of right ones dropped, share of wrong ones dropped) at 101 thresholds; the area."""
    order = np.sort(right)
    below = (np.searchsorted(order, wrong, "left") + np.searchsorted(order, wrong, "right")) / 2
    thresholds = np.quantile(right, np.linspace(1, 0, 101))
    points = [[float((right > t).mean()), float((wrong > t).mean())] for t in thresholds]
    return points, float(below.mean() / len(right))


def judged(folder: Path, store: Store) -> dict[str, NDArray[Any]]:
    """Energies of the wrong and the right pairs that a filter wrote, and which of them it kept."""
    shuffled = store.dataset.to_table(["extra_shuffled"])["extra_shuffled"].to_pylist()
    wrong = [set(map(int, (numbers or "").split())) for numbers in shuffled]
    found: dict[str, list[float]] = {"wrong": [], "right": [], "wrong_kept": [], "right_kept": []}
    for name in ("kept", "dropped"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            pair = json.loads(line)
            kind = "wrong" if pair["number"] in wrong[pair["row"]] else "right"
            found[kind].append(pair["energy"])
            found[f"{kind}_kept"].append(name == "kept")
    return {name: np.array(values, float) for name, values in found.items()}


def measure(found: dict[str, NDArray[Any]]) -> dict[str, Any]:
    wrong, right = found["wrong"], found["right"]
    points, area = roc(wrong, right)
    return {
        "pairs": len(wrong) + len(right),
        "exchanged": len(wrong),
        "roc_auc": area,
        "found": {str(c): float((wrong > np.quantile(right, 1 - c)).mean()) for c in COSTS},
        "at_keep_0.8": {
            "exchanged_dropped": float(1 - found["wrong_kept"].mean()),
            "right_dropped": float(1 - found["right_kept"].mean()),
            "exchanged_among_kept": float(
                found["wrong_kept"].sum() / (found["wrong_kept"].sum() + found["right_kept"].sum())
            ),
        },
        "roc_curve": points,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", choices=["flickr8k", "scenes"], default="flickr8k")
    parser.add_argument(
        "--run", type=Path, help="run folder of a trained model; else one is trained"
    )
    parser.add_argument("--preset", default=FROZEN, help="to train by, without --run")
    parser.add_argument("--quick", action="store_true", help="some scenes and a tiny model")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/filter.json")
    options = parser.parse_args()
    console, real = Console(), os.environ.get("TIJEPA_REAL_DATA")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = root / "noisy"
        source.mkdir()
        if options.quick:
            scenes_with_noise(source, {"train": 300, "validation": 60, "test": 60}, NOISE, SEED)
        elif options.data == "scenes":
            scenes_with_noise(source, {"train": 500, "validation": 60, "test": 500}, NOISE, SEED)
        else:
            if not real:
                parser.error(
                    "set TIJEPA_REAL_DATA to the folder with data/flickr8k, or --data scenes"
                )
            photos_with_noise(Path(real) / "data" / "flickr8k", source, NOISE, SEED)
        store = str(root / "noisy.lance")
        write_store(open_reader(str(source)), store, threads=os.cpu_count() or 1)
        run, overrides = options.run, [f"data.source={json.dumps(store)}", f"seed={SEED}"]
        if run is None:
            preset = None if options.quick else options.preset
            overrides += TINY if options.quick else []
            if real and preset == FROZEN:
                weights = Path(real) / "weights" / "vit_tiny_patch16_224"
                overrides.append(f"model.image.backbone={json.dumps(str(weights))}")
            config = load_config(preset, overrides=overrides)
            run = train(config, root / "run", reporter=ConsoleReporter(console))
        model = tijepa.load(run)
        splits = {}
        for split in ("train", "test"):
            out = root / split
            filter_store(
                model,
                store,
                out,
                keep=1 - NOISE,
                where=f"split = '{split}'",
                reporter=ConsoleReporter(console),
            )
            splits[split] = measure(judged(out, Store(store)))
    payload = {
        "seeds": [SEED],
        "data": "scenes" if options.quick else options.data,
        "noise": NOISE,
        "model": "trained on the noisy pairs"
        if options.run is None
        else "given, trained elsewhere",
        "preset": None if options.run or options.quick else options.preset,
        "form": model.default_form,
        "roc_auc": splits["train"]["roc_auc"],
        "splits": splits,
    }
    for split, figures in splits.items():
        shown = {key: value for key, value in figures.items() if key != "roc_curve"}
        print(f"{split}: {json.dumps(shown)}")
    out = options.out or (RESULTS / "filter.quick.json" if options.quick else None)
    print(f"written to {write_record('filter', payload, out)}")


if __name__ == "__main__":
    main()
