"""Does the filter find captions that stand beside the wrong images?

A fifth of the captions is exchanged within each split of Flickr8k (`data/flickr8k` in the folder
that TIJEPA_REAL_DATA names) or of rendered scenes; a model is trained on the noisy pairs by the
preset photos-frozen (on the ViT-Tiny of that folder), or one is given by `--run`; then
`tijepa filter` judges every pair. Training pairs are judged as it does by itself (`judged`): few by
folds of the closed form, out of sample, many as they are. `roc_auc` is the chance that an exchanged
caption has a higher energy than a right one; `found` says which share of the exchanged ones goes
when 1, 5 or 10 % of the right ones go with them, and `at_keep_0.8` what `--keep 0.8` does. Each
split by itself: the model was trained on the first. `few` is the same with 500 photos to train on,
by one caption each.

    python benchmarks/filter.py [--data flickr8k|scenes] [--run RUN] [--keep FOLDER] [--quick]

With `--keep` stores and runs stay in FOLDER, and what is there already is not made again.
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

from noisy import photos_with_noise, scenes_with_noise
from record import RESULTS, write_record
from tijepa.config import RunConfig, load_config
from tijepa.data.readers import open_reader
from tijepa.data.store.prepare import write_store
from tijepa.data.store.source import Store
from tijepa.errors import DataError
from tijepa.search.filter import filter_store
from tijepa.training import train

NOISE = 0.2
SEED = 0
FROZEN = "photos-frozen"
FEW = 500
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


def energies_of(folder: Path, store: Store) -> dict[str, NDArray[Any]]:
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


def measured(
    options: argparse.Namespace, root: Path, console: Console, photos: int | None = None
) -> dict[str, Any]:
    """The form of energy, and what a filter finds in each split; of the first `photos`, or all."""
    store, run = str(root / "noisy.lance"), options.run
    if not Path(store).exists():
        write_noisy(options, root / "noisy", photos)
        write_store(open_reader(str(root / "noisy")), store, threads=os.cpu_count() or 1)
    if run is None:
        run = root / "run"
        if not (run / "results.json").exists():
            train(configured(options, store), run, reporter=ConsoleReporter(console))
    splits = {}
    for split in ("train", "test"):
        found = filter_store(
            run,
            store,
            root / split,
            keep=1 - NOISE,
            where=f"split = '{split}'",
            all_splits=split != "train",
            reporter=ConsoleReporter(console),
        )
        judged = {"judged": found.facts["judged"]}
        splits[split] = judged | measure(energies_of(root / split, Store(store)))
    return {"form": found.form, "splits": splits}


def write_noisy(options: argparse.Namespace, source: Path, photos: int | None) -> None:
    """A folder of pairs, a fifth of whose captions are exchanged."""
    source.mkdir(parents=True)
    counts = {"train": 300, "validation": 60, "test": 60}
    real = os.environ.get("TIJEPA_REAL_DATA")
    if options.quick:
        scenes_with_noise(source, counts, NOISE, SEED)
    elif options.data == "scenes":
        scenes_with_noise(source, counts | {"train": 500, "test": 500}, NOISE, SEED)
    elif real:
        photos_with_noise(Path(real) / "data" / "flickr8k", source, NOISE, SEED, photos)
    else:
        raise DataError(
            "TIJEPA_REAL_DATA is not set: give the folder with data/flickr8k, or take scenes"
        )


def configured(options: argparse.Namespace, store: str) -> RunConfig:
    """The run that is trained on the noisy pairs."""
    preset = None if options.quick else options.preset
    overrides = [f"data.source={json.dumps(store)}", f"seed={SEED}"]
    overrides += TINY if options.quick else []
    real = os.environ.get("TIJEPA_REAL_DATA")
    if real and preset == FROZEN:
        weights = Path(real) / "weights" / "vit_tiny_patch16_224"
        overrides.append(f"model.image.backbone={json.dumps(str(weights))}")
    return load_config(preset, overrides=overrides)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", choices=["flickr8k", "scenes"], default="flickr8k")
    parser.add_argument(
        "--run", type=Path, help="run folder of a trained model; else one is trained"
    )
    parser.add_argument("--preset", default=FROZEN, help="to train by, without --run")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="go on with what is there")
    parser.add_argument("--quick", action="store_true", help="some scenes and a tiny model")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/filter.json")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        root = options.keep or Path(name)
        whole = measured(options, root / "whole", console)
        few = None
        if options.data == "flickr8k" and options.run is None and not options.quick:
            few = {"photos": FEW, **measured(options, root / "few", console, FEW)}
    payload = {
        "seeds": [SEED],
        "data": "scenes" if options.quick else options.data,
        "noise": NOISE,
        "model": "trained on the noisy pairs"
        if options.run is None
        else "given, trained elsewhere",
        "preset": None if options.run or options.quick else options.preset,
        "roc_auc": whole["splits"]["train"]["roc_auc"],
        **whole,
        "few": few,
    }
    for split, figures in whole["splits"].items():
        shown = {key: value for key, value in figures.items() if key != "roc_curve"}
        print(f"{split}: {json.dumps(shown)}")
    out = options.out or (RESULTS / "filter.quick.json" if options.quick else None)
    print(f"written to {write_record('filter', payload, out)}")


if __name__ == "__main__":
    main()
