"""The rivals on equal terms: CLIP, SigLIP, VICReg and Barlow Twins behind the same contract.

Each compares the pooled embeddings of the pairs of the batch, without predictor and stop-gradient.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective, ObjectiveOutput, Pooled
from tijepa.objectives.distributed import Distributed, centre
from tijepa.objectives.energies import squared_l2
from tijepa.objectives.regularizers import VICReg
from tijepa.registry import NonNegative, Section, register

MAX_LOGIT_SCALE = math.log(100.0)


PULL, SPREAD, DECORRELATE = 25.0, 25.0, 1.0  # the published weights of VICReg


class PairObjective(Objective):
    """A function of the pooled embeddings of the batch's pairs; 0 of fewer than two."""

    @abstractmethod
    def compare(
        self, image: Float[Tensor, "p d"], text: Float[Tensor, "p d"], generator: torch.Generator
    ) -> ObjectiveOutput:
        """The loss of at least two pairs, and its readings."""

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """See `compare`."""
        both = pooled.pairs
        if len(both) < 2:
            return ObjectiveOutput(pooled.image.new_zeros(()), {})
        image = model.context.embed_image(pooled.image[both])
        text = model.context.embed_text(pooled.text[both])
        return self.compare(image, text, generator)


def _cosines(image: Float[Tensor, "p d"], text: Float[Tensor, "p d"]) -> Float[Tensor, "p p"]:
    """Of every image with every text."""
    return F.normalize(image, dim=1) @ F.normalize(text, dim=1).T


@register("objective", "clip")
class CLIPObjective(PairObjective):
    """Symmetric cross-entropy over the batch (arXiv 2103.00020, figure 3).

    The temperature is learned, starts at 0.07 and its inverse never exceeds 100, as published.
    """

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def compare(
        self, image: Float[Tensor, "p d"], text: Float[Tensor, "p d"], generator: torch.Generator
    ) -> ObjectiveOutput:
        """Mean of both directions' cross-entropies."""
        with torch.no_grad():  # in place, so that it can come down again
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        scale = self.logit_scale.exp()
        logits = scale * _cosines(image, text)
        own = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        return ObjectiveOutput(loss, {"info_nce": loss.detach(), "logit_scale": scale.detach()})


@register("objective", "siglip")
class SigLIPObjective(PairObjective):
    """Pairwise sigmoid loss (arXiv 2303.15343, algorithm 1): starts at scale 10, bias −10."""

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def compare(
        self, image: Float[Tensor, "p d"], text: Float[Tensor, "p d"], generator: torch.Generator
    ) -> ObjectiveOutput:
        """Sum over all pairs of −log σ(±logit), divided by the number of images."""
        scale = self.logit_scale.exp()
        logits = scale * _cosines(image, text) + self.logit_bias
        sign = 2 * torch.eye(len(logits), device=logits.device) - 1
        loss = -F.logsigmoid(sign * logits).sum() / len(logits)
        readings = {"sigmoid": loss, "logit_scale": scale, "logit_bias": self.logit_bias}
        return ObjectiveOutput(loss, {name: value.detach() for name, value in readings.items()})


@register("objective", "vicreg")
class VICRegObjective(PairObjective):
    """25 · ‖z_I − z_T‖² / d, and for each modality 25 · variance hinge + 1 · covariance.

    Equation 6 of arXiv 2105.04906 with the mean over dimensions in the first term, as in its
    experiments: the weights belong to that form. The gradient of the first term reaches both
    encoders.
    """

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.spread = VICReg(DECORRELATE / SPREAD, processes=self.processes)

    def compare(
        self, image: Float[Tensor, "p d"], text: Float[Tensor, "p d"], generator: torch.Generator
    ) -> ObjectiveOutput:
        """Deterministic."""
        parts: dict[str, Tensor] = {
            "invariance": squared_l2(image, text).mean(),
            "regularizer/image": self.spread(image, generator),
            "regularizer/text": self.spread(text, generator),
        }
        loss = PULL * parts["invariance"] + SPREAD * (
            parts["regularizer/image"] + parts["regularizer/text"]
        )
        return ObjectiveOutput(loss, {name: part.detach() for name, part in parts.items()})


class BarlowConfig(Section):
    """What `barlow` is set by."""

    redundancy: NonNegative = 0.005  # weight λ of what two different dimensions share


@register("objective", "barlow", config=BarlowConfig)
class BarlowObjective(PairObjective):
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², C_ij the correlation of images' i-th with texts' j-th.

    Over the pairs of the batch in all `processes`; equation 1 of arXiv 2103.03230, whose λ is
    0.005, with an image and its text in the place of two crops. A constant embedding has no
    correlation, so that collapse costs 1 a dimension.
    """

    def __init__(self, *, redundancy: float, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.redundancy = redundancy

    def compare(
        self, image: Float[Tensor, "p d"], text: Float[Tensor, "p d"], generator: torch.Generator
    ) -> ObjectiveOutput:
        """Deterministic."""
        correlation = self.processes.total(self._standardised(image).T @ self._standardised(text))
        own = correlation.diagonal()
        invariance = (1.0 - own).square().sum()
        redundancy = correlation.square().sum() - own.square().sum()
        readings = {"invariance": invariance.detach(), "redundancy": redundancy.detach()}
        return ObjectiveOutput(invariance + self.redundancy * redundancy, readings)

    def _standardised(self, embedding: Float[Tensor, "p d"]) -> Float[Tensor, "p d"]:
        """Columns of mean 0 and sum of squares 1, over all processes; about 0 where constant."""
        n, centred = centre(embedding, self.processes)
        squares = self.processes.total(centred.square().sum(dim=0))
        return centred / (squares + 1e-5 * n).sqrt()
