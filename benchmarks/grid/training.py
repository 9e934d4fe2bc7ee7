"""One run, step by step, as `tijepa train` does it."""

from __future__ import annotations

import time

import torch

from grid.held import Held, batches
from grid.job import Job, configuration
from tijepa.evaluate.measure import calibrate
from tijepa.inference.embedder import Embedder
from tijepa.model.saving import ModelCard
from tijepa.training.build import (
    build_model,
    build_objective,
    build_schedule,
    model_arguments,
    resolve_compute,
)
from tijepa.training.optimizer import build_optimizer
from tijepa.training.step import training_step

__all__ = ["Training"]


class Training:
    """A run in progress. After a step that is not finite it has `diverged` and stands still."""

    def __init__(self, job: Job, held: Held, base: tuple[str, ...] = ()) -> None:
        self.config = configuration(job, base)
        self.held = held
        self.step = 0
        self.diverged = False
        self.seconds = 0.0
        self.model = build_model(self.config, held.words.vocab_size)
        if held.encoders is not None:
            held.encoders(self.model)
        self.objective = build_objective(self.config)
        optim = self.config.optim
        self._optimizer = build_optimizer(
            [self.model, self.objective], lr=optim.lr, betas=optim.betas
        )
        self._compute = resolve_compute(self.config)
        self._batches = batches(held, batch_size=optim.batch_size, seed=self.config.seed)
        self._card = ModelCard(
            model_arguments(self.config, held.words.vocab_size),
            self.config.objective.name,
            self.config.data.image_size,
            self.config.data.max_tokens,
        )

    @property
    def pairs_per_second(self) -> float:
        """Of the steps so far, by the clock, evaluation left out."""
        return self.step * self.config.optim.batch_size / max(self.seconds, 1e-9)

    def advance(self, steps: int) -> None:
        """Train on, at most to the last step of the run."""
        start = time.perf_counter()
        self.model.train()
        for _ in range(min(steps, self.config.optim.steps - self.step)):
            if self.diverged:
                break
            reading = training_step(
                self.model,
                self.objective,
                self._optimizer,
                next(self._batches),
                build_schedule(self.config).at(self.step),
                seed=(self.config.seed, self.step, 0),
                compute=self._compute,
                accumulate=self.config.optim.accumulate,
                clip_norm=self.config.optim.clip_norm,
            )
            finite = bool(reading.finite)
            self.diverged = not finite
            self.step += finite
        self.seconds += time.perf_counter() - start

    @property
    def max_tokens(self) -> int:
        """Longer captions are cut."""
        return self._card.max_tokens

    def uncalibrated(self) -> Embedder:
        """The model as it is now."""
        return Embedder(self.model, self.held.words, self._card)

    def embedder(self) -> Embedder:
        """The same, calibrated on training and validation pairs.

        Raises `NonFiniteError` where its embeddings are not finite.
        """
        embedder = self.uncalibrated()
        embedder.calibration = calibrate(
            embedder, self.held.calibration, self.held.held_out["validation"]
        )
        return embedder

    def parameters(self) -> int:
        """Trained weights."""
        modules: list[torch.nn.Module] = [self.model, self.objective]
        return sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)
