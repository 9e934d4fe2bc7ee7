"""Where is the red circle? The pointing game on scenes, tijepa beside CLIP.

Both are trained on the same encoders with patches of 8 pixels, in the same order of pairs, for the
same steps. Every object of the held-out scenes is asked for by colour and shape; a hit is a map of
8 x 8 cells whose lowest cell has its centre in the object's box. Two maps for each model:

- `opening`: the energy of what a small opening shows (`Embedder.energy_map`);
- `patches`: the energy of each patch token, sent through the image head in place of the pooled
  token; for CLIP that is one minus the patch-text cosine.

`tijepa` is the mean over seeds of ours by `opening`, `clip` that of CLIP by `patches`; `by_map`
holds all four, so that what the map gives and what the training gives can be told apart.

    python benchmarks/pointing.py [--quick] [--seeds 3] [--steps N] [--processes 2]
        [--runs DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from record import RESULTS, write_record
from tijepa.data.scenes import Scenes
from tijepa.embedder import Embedder
from tijepa.evaluate.pointing import pointing_on_scenes
from tijepa.objectives.embeddings import embed
from trained import OBJECTIVES, Kept, train_all

PATCH = 8
STEPS = 3000
SCENES = 300
REPORTED = {"tijepa": "opening", "clip": "patches"}


def patch_maps(embedder: Embedder) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """Maps (t, g, g) of patch tokens that take the place of the pooled token."""

    @torch.no_grad()
    def maps_of(picture: Tensor, texts: Sequence[str]) -> Tensor:
        model = embedder.model.eval()
        tokens = embedder.tokenizer.encode(list(texts), embedder.card.max_tokens)
        pooled = model.context.text(tokens.ids, tokens.mask).pooled
        patches = model.context.image(picture[None]).tokens[0]
        energy = embedder.energy_of(embed(model, patches, pooled), embedder.default_form)
        grid = model.context.image.grid
        return energy.T.reshape(len(texts), grid, grid)

    return maps_of


def play(run: Kept, items: int) -> dict[str, dict[str, float | int]]:
    """The game by both maps on the same scenes."""
    embedder = run.embedder()
    scenes = Scenes("test", items, distinct=True)
    return {
        "opening": pointing_on_scenes(embedder, scenes, items).to_dict(),
        "patches": pointing_on_scenes(embedder, scenes, items, patch_maps(embedder)).to_dict(),
    }


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
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/pointing.json")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    items = 4 if options.quick else SCENES
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.quick else options.runs
        steps, patch = (6, 16) if options.quick else (options.steps, PATCH)
        runs = {
            name: [Kept(name, seed, steps, patch, folder) for seed in seeds] for name in OBJECTIVES
        }
        train_all([run for of_one in runs.values() for run in of_one], options.processes)
        torch.set_num_threads(1)
        raw = {name: [play(run, items) for run in of_one] for name, of_one in runs.items()}
        configuration = {name: of_one[0].configuration().to_yaml() for name, of_one in runs.items()}

    payload: dict[str, Any] = {"seeds": list(seeds), "by_map": {}, "range": {}}
    for name, played in raw.items():
        for kind in ("opening", "patches"):
            shares = [float(game[kind]["accuracy"]) for game in played]
            payload["by_map"].setdefault(name, {})[kind] = fmean(shares)
            if REPORTED[name] == kind:
                payload[name], payload["range"][name] = fmean(shares), [min(shares), max(shares)]
            print(f"{name:>7} by {kind}: {100 * fmean(shares):.1f} % in the box {shares}")
    game = raw["tijepa"][0]["opening"]
    payload |= {name: game[name] for name in ("chance", "box_area", "reachable", "queries")}
    payload |= {"steps": steps, "raw": raw, "configuration": configuration}
    print(f"chance {100 * payload['chance']:.1f} %, {payload['queries']} objects")
    out = options.out or (RESULTS / "pointing.quick.json" if options.quick else None)
    print(f"written to {write_record('pointing', payload, out)}")


if __name__ == "__main__":
    main()
