"""One run as plain values, and the configuration it stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tijepa.config import RunConfig, load_config

__all__ = ["OBJECTIVES", "SMALL", "Job", "configuration"]

# the rivals keep their own best habits: a linear head as published, a learned temperature
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "tijepa": (),
    "clip": ("objective.name=clip", "model.head.depth=0"),
    "siglip": ("objective.name=siglip", "model.head.depth=0"),
}
# small enough for a grid: about 0.6 million parameters in the encoders
SMALL = ("model.image.width=96", "model.image.depth=3", "model.text.width=96", "model.text.depth=2")
_PAYS = 16 * 96  # rows times width from which bf16 is the faster one (docs/log.md)


@dataclass(frozen=True)
class Job:
    """One run. `data` names the view of the data that the script opens."""

    objective: str
    batch: int
    lr: float
    seed: int
    steps: int
    data: str = "scenes"
    settings: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Pairs seen, with repetition."""
        return self.batch * self.steps

    def __str__(self) -> str:
        return f"{self.objective:>7} batch {self.batch:>3} lr {self.lr:.2e} seed {self.seed}"


def configuration(job: Job, base: tuple[str, ...] = ()) -> RunConfig:
    """The demo's configuration with `base`, then what the job changes.

    bf16 where the processor multiplies it and the matrices are large enough to gain by it: for
    every objective the same.
    """
    overrides = [
        *base,
        *OBJECTIVES.get(job.objective, ()),
        *job.settings,
        f"seed={job.seed}",
        f"optim.batch_size={job.batch}",
        f"optim.lr={job.lr}",
        f"optim.steps={job.steps}",
    ]
    config = load_config("scenes", overrides=overrides)
    if config.compute.precision != "auto":
        return config
    width = min(config.model.image.width, config.model.text.width)
    pays = torch.cpu._is_avx512_bf16_supported() and job.batch * width >= _PAYS
    precision = "bfloat16" if pays else "float32"
    return load_config("scenes", overrides=[*overrides, f"compute.precision={precision}"])
