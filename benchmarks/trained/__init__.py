"""tijepa and CLIP trained on scenes with the same encoders, order of pairs, steps and schedule.

Finished runs are kept, so that two benchmarks share them and an interrupted one goes on.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

import tijepa
from tijepa.config import RunConfig, load_config
from tijepa.embedder import Embedder
from tijepa.train import train

__all__ = ["OBJECTIVES", "Kept", "train_all"]

OBJECTIVES = {
    "tijepa": ["optim.lr=1e-3"],
    "clip": ["objective.name=clip", "model.head.depth=0", "optim.lr=5e-4"],
}


@dataclass(frozen=True)
class Kept:
    """One run: what is trained, for how long, and the folder that all such runs lie in."""

    objective: str
    seed: int
    steps: int
    patch_size: int
    folder: Path

    @property
    def path(self) -> Path:
        """The run's own folder."""
        name = f"{self.objective}-patch{self.patch_size}-steps{self.steps}-seed{self.seed}"
        return self.folder / name

    def configuration(self) -> RunConfig:
        """The demo's configuration with the rates that the negatives benchmark found best."""
        return load_config(
            "scenes",
            overrides=[
                *OBJECTIVES[self.objective],
                f"seed={self.seed}",
                f"optim.steps={self.steps}",
                f"model.image.patch_size={self.patch_size}",
                f"log.eval_every={self.steps}",
                "log.save_every=200",
                "log.tensorboard=false",
                "data.threads=0",
                "data.eval_items=200",
                "data.test_items=200",
            ],
        )

    def embedder(self) -> Embedder:
        """The trained model."""
        return tijepa.load(self.path)


def train_all(runs: list[Kept], processes: int) -> None:
    """Train what is not trained yet; a run that was cut off is resumed."""
    missing = [run for run in runs if not (run.path / "results.json").exists()]
    with ProcessPoolExecutor(max(1, min(processes, os.cpu_count() or 1))) as pool:
        for run, _ in zip(missing, pool.map(_train, missing), strict=True):
            print(f"trained {run.path}", flush=True)


def _train(run: Kept) -> None:
    torch.set_num_threads(1)
    quiet = Console(quiet=True)
    begun = any((run.path / "checkpoints").glob("step-*"))
    train(run.configuration(), run.path, resume=begun, console=quiet)
