"""What a run measures of its model while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tijepa.data.tokenizer import Tokenizer
from tijepa.evaluate.collapse_metrics import (
    CollapseMetrics,
    collapse_metrics,
    fused_metrics,
    target_embeddings,
    watched,
)
from tijepa.evaluate.detect import Basis
from tijepa.evaluate.measure import EvaluationSet, calibrate, measure
from tijepa.evaluate.tasks import held_out_batch, task_energies
from tijepa.inference.calibration import Calibration
from tijepa.inference.embedder import Embedder
from tijepa.inference.results import Retrieval
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found: `figures` by name, plain values that JSON holds.

    `collapse` is what the guard judges by, on this `basis` of pairs; `calibration` goes into the
    checkpoint, and by the highest `recall` the best checkpoint is chosen.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    collapse: CollapseMetrics | None = None
    calibration: Calibration | None = None
    recall: float | None = None
    basis: Basis | None = None


# the model, which may be left in evaluation mode → figures, or more than those
Evaluation = Callable[[TextImageModel], Evaluated | Mapping[str, Any]]


@dataclass(frozen=True)
class HeldOut:
    """Calibrates on training pairs and measures on held-out ones: retrieval, tasks, collapse.

    Without `pairs` nothing is measured, without `calibration_pairs` nothing is calibrated, and a
    model that was solved with its `calibration` keeps that. Raises
    `NonFiniteError` where the model's embeddings are not finite: then its weights are not worth
    saving.
    """

    objective: Objective
    tokenizer: Tokenizer
    card: ModelCard
    pairs: EvaluationSet | None
    calibration_pairs: EvaluationSet | None = None
    device: torch.device | str = "cpu"
    calibration: Calibration | None = None

    def __call__(self, model: TextImageModel) -> Evaluated:
        """Leaves the model in evaluation mode."""
        start = time.perf_counter()
        embedder = Embedder(model, self.tokenizer, self.card, device=self.device)
        if self.calibration is not None:
            embedder.calibration = self.calibration
        elif self.calibration_pairs is not None:
            words = {"text_infill", "text_only"} <= set(
                getattr(self.objective, "token_weights", ())
            )
            embedder.calibration = calibrate(
                embedder, self.calibration_pairs, self.pairs, words=words
            )
        if self.pairs is None:
            return Evaluated(calibration=embedder.calibration)
        batch = held_out_batch(self.pairs, self.tokenizer, self.card.max_tokens).to(self.device)
        tasks = task_energies(model, self.objective, batch)
        learned = watched(tasks)
        found = measure(embedder, self.pairs, learned)
        aligned = found.embeddings.texts(self.pairs.first_text)
        readings = collapse_metrics(
            aligned,
            target_embeddings(model, batch) if learned.modalities else {},
            own=embedder.backend.before_target_norm(aligned),
            modalities=learned.modalities,
            directions=learned.directions,
        )
        readings |= fused_metrics(model, batch)
        figures = replace(found.results, step=0, split="validation").to_json()
        figures |= {"tasks": tasks, "seconds": time.perf_counter() - start}
        recall = _recall(found.results.retrieval) if learned.directions else None
        basis = Basis.of(found.results.retrieval or Retrieval())
        return Evaluated(figures, readings, embedder.calibration, recall, basis)


def _recall(retrieval: Retrieval | None) -> float | None:
    """The mean recall at 1 of both directions."""
    if retrieval is None:
        return None
    return (retrieval.image_to_text.recall_at_1 + retrieval.text_to_image.recall_at_1) / 2
