"""VICReg between an image and its text (arXiv 2105.04906), without predictor and stop-gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective, ObjectiveOutput, Pooled
from tijepa.objectives.distributed import Distributed
from tijepa.objectives.energies import squared_l2
from tijepa.objectives.regularizers import VICReg
from tijepa.registry import register

PULL, SPREAD, DECORRELATE = 25.0, 25.0, 1.0  # the published weights


@register("objective", "vicreg")
class VICRegObjective(Objective):
    """25 · ‖z_I − z_T‖² / d, and for each modality 25 · variance hinge + 1 · covariance.

    Equation 6 of the paper with the mean over dimensions in the first term, as in its experiments:
    the weights belong to that form. The gradient of the first term reaches both encoders.
    """

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.spread = VICReg(DECORRELATE / SPREAD, processes=self.processes)

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """Over the pairs of the batch; nothing where there are fewer than two."""
        both = pooled.pairs
        if len(both) < 2:
            return ObjectiveOutput(pooled.image.new_zeros(()), {})
        image = model.context.embed_image(pooled.image[both])
        text = model.context.embed_text(pooled.text[both])
        parts: dict[str, Tensor] = {
            "invariance": squared_l2(image, text).mean(),
            "regularizer/image": self.spread(image, generator),
            "regularizer/text": self.spread(text, generator),
        }
        loss = PULL * parts["invariance"] + SPREAD * (
            parts["regularizer/image"] + parts["regularizer/text"]
        )
        return ObjectiveOutput(loss, {name: part.detach() for name, part in parts.items()})
