"""Barlow Twins (arXiv 2103.03230) between an image and its text in the place of two crops."""

from __future__ import annotations

import torch
from torch import Tensor

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective, ObjectiveOutput, Pooled
from tijepa.objectives.distributed import Distributed
from tijepa.registry import NonNegative, Section, register


class BarlowConfig(Section):
    """What `barlow` is set by."""

    redundancy: NonNegative = 0.005  # weight λ of what two different dimensions share


@register("objective", "barlow", config=BarlowConfig)
class BarlowObjective(Objective):
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², C_ij the correlation of images' i-th with texts' j-th.

    Over the pairs of the batch in all `processes`; equation 1 of the paper, whose λ is 0.005. A
    constant embedding has no correlation, so that collapse costs 1 a dimension.
    """

    def __init__(self, *, redundancy: float, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.redundancy = redundancy

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """Deterministic; nothing where there are fewer than two pairs."""
        pairs = pooled.pairs
        if len(pairs) < 2:
            return ObjectiveOutput(pooled.image.new_zeros(()), {})
        image = self._standardised(model.context.embed_image(pooled.image[pairs]))
        text = self._standardised(model.context.embed_text(pooled.text[pairs]))
        correlation = self.processes.total(image.T @ text)
        own = correlation.diagonal()
        invariance = (1.0 - own).square().sum()
        redundancy = correlation.square().sum() - own.square().sum()
        readings = {"invariance": invariance.detach(), "redundancy": redundancy.detach()}
        return ObjectiveOutput(invariance + self.redundancy * redundancy, readings)

    def _standardised(self, embedding: Tensor) -> Tensor:
        """Columns of mean 0 and sum of squares 1, over all processes; about 0 where constant."""
        total = self.processes.total
        n = total(embedding.new_tensor(float(len(embedding))))
        centred = embedding - total(embedding.sum(dim=0)) / n
        return centred / (total(centred.square().sum(dim=0)) + 1e-5 * n).sqrt()
