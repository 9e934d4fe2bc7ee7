"""tijepa and CLIP with small patches, asked what they know of the parts of a scene.

One run serves `pointing.py` and `composition.py`: both read the same journal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grid.job import SMALL, Job
from grid.recall import trained_recalls
from grid.runner import Runner
from grid.scenes import keep_scenes, open_scenes
from grid.training import Training
from tijepa.data.scenes import Scenes
from tijepa.evaluate.grounding import hard_negatives, pointing_on_scenes
from tijepa.evaluate.measure import evaluation_set, measure
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embeddings, embed
from tijepa.objectives.forward import encode_modality

__all__ = ["BASE", "COMPARED", "SPLITS", "add_options", "jobs_of", "keep", "results_of", "run"]

BASE = (*SMALL, "model.image.patch_size=8")
BATCH, STEPS = 64, 2000
ITEMS, HELD_OUT = 24_000, 500
POINTED, ASKED = 300, 2000
RATES = {"tijepa": 1e-3, "clip": 1e-3}  # the best of negatives.py at this batch (docs/log.md)
COMPARED = tuple(RATES)
SPLITS = ("test", "novel")


def add_options(options: argparse.ArgumentParser) -> None:
    """What both scripts can be told."""
    options.add_argument("--steps", type=int, default=STEPS)
    for name, rate in RATES.items():
        options.add_argument(f"--{name}-lr", type=float, default=rate, help=f"default: {rate}")


def keep(options: argparse.Namespace) -> Callable[[Path], None]:
    """What makes the data."""
    items, held_out = (300, 20) if options.quick else (ITEMS, HELD_OUT)
    return lambda folder: keep_scenes(folder, items=items, held_out=held_out)


def jobs_of(options: argparse.Namespace) -> dict[str, list[Job]]:
    """The runs of each objective, one for every seed."""
    found: dict[str, list[Job]] = {}
    for name in COMPARED:
        own = tuple(options.ours) if name == "tijepa" else ()
        for seed in range(1 if options.quick else options.seeds):
            found.setdefault(name, []).append(
                Job(
                    name,
                    16 if options.quick else BATCH,
                    getattr(options, f"{name}_lr"),
                    seed,
                    3 if options.quick else options.steps,
                    "quick" if options.quick else "scenes",
                    (*options.set, *own),
                )
            )
    return found


def results_of(runner: Runner, jobs: dict[str, list[Job]]) -> dict[str, list[dict[str, Any]]]:
    """The results of all runs, by objective."""
    flat = [job for of in jobs.values() for job in of]
    results = iter(runner.results(flat, _said))
    return {name: [next(results) for _ in of] for name, of in jobs.items()}


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Train once, then play the pointing game by both maps, and judge both splits.

    A run that diverged raises `AssertionError`: its rate is none to compare at.
    """
    quick = job.data == "quick"
    training = Training(job, open_scenes(folder), BASE)
    training.advance(job.steps)
    assert not training.diverged, f"{job} diverged at step {training.step}"
    embedder = training.embedder()
    items = 3 if quick else POINTED
    scenes = Scenes("test", items, distinct=True)
    return {
        "pointing": {
            "opening": asdict(pointing_on_scenes(embedder, scenes, items)),
            "patches": asdict(pointing_on_scenes(embedder, scenes, items, patch_maps(embedder))),
        },
        "composition": {
            split: composition(embedder, split, *((20, 10) if quick else (HELD_OUT, ASKED)))
            for split in SPLITS
        },
        **trained_recalls(training),
    }


def composition(embedder: Embedder, split: str, retrieved: int, asked: int) -> dict[str, float]:
    """Recall at 1 and the accuracy of each kind of hard negative on one split."""
    scenes = Scenes(split, max(retrieved, asked), distinct=True)
    data = evaluation_set(scenes, items=retrieved, captions=1, image_size=64)
    retrieval = measure(embedder, data).results.retrieval
    assert retrieval is not None
    return {
        "recall_at_1": retrieval.mean_recall_at_1,
        **{k: found.accuracy for k, found in hard_negatives(embedder, scenes, asked).items()},
    }


def patch_maps(embedder: Embedder) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """Maps (t, g, g) of patch tokens that take the place of the pooled token."""

    @torch.no_grad()
    def maps_of(image: Tensor, texts: Sequence[str]) -> Tensor:
        model = embedder.model.eval()
        tokens = embedder.tokenizer.encode(list(texts), embedder.card.max_tokens)
        pooled = encode_modality(model.context, "text", tokens.ids, tokens.mask).pooled
        patches = encode_modality(model.context, "image", image[None]).tokens[0]
        e = Embeddings.of(embed(model, "image", patches), embed(model, "text", pooled))
        energy = embedder.energy_of(e, embedder.default_form)
        grid = model.context.image.grid
        return energy.T.reshape(len(texts), grid, grid)

    return maps_of


def _said(result: dict[str, Any]) -> str:
    game = result["pointing"]
    shown = ", ".join(f"{100 * game[kind]['accuracy']:.1f} % by {kind}" for kind in game)
    return f"test {100 * result['test']:.1f} %, in the box {shown}"
