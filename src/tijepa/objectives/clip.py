"""The rivals on equal terms: CLIP (InfoNCE) and SigLIP behind the same contract."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective, ObjectiveOutput, Pooled
from tijepa.objectives.distributed import Distributed
from tijepa.registry import register

MAX_LOGIT_SCALE = math.log(100.0)


class Contrastive(Objective):
    """Shared by both: cosine similarity of the pooled embeddings of the pairs."""

    def similarity(self, model: TextImageModel, pooled: Pooled) -> Float[Tensor, "b b"] | None:
        """Cosine of every image with every text among the batch's pairs; None of fewer than two."""
        both = pooled.pairs
        if len(both) < 2:
            return None
        image = F.normalize(model.context.embed_image(pooled.image[both]), dim=1)
        text = F.normalize(model.context.embed_text(pooled.text[both]), dim=1)
        return image @ text.T


@register("objective", "clip")
class CLIPObjective(Contrastive):
    """Symmetric cross-entropy over the batch (arXiv 2103.00020, figure 3).

    The temperature is learned, starts at 0.07 and its inverse never exceeds 100, as published.
    """

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """Mean of both directions' cross-entropies."""
        with torch.no_grad():  # in place, so that it can come down again
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        scale = self.logit_scale.exp()
        similarity = self.similarity(model, pooled)
        if similarity is None:
            return _nothing(pooled)
        logits = scale * similarity
        own = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        return ObjectiveOutput(loss, {"info_nce": loss.detach(), "logit_scale": scale.detach()})


@register("objective", "siglip")
class SigLIPObjective(Contrastive):
    """Pairwise sigmoid loss (arXiv 2303.15343, algorithm 1): starts at scale 10, bias −10."""

    def __init__(self, processes: Distributed | None = None) -> None:
        super().__init__(processes)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    def batch_terms(
        self, model: TextImageModel, pooled: Pooled, generator: torch.Generator
    ) -> ObjectiveOutput:
        """Sum over all pairs of −log σ(±logit), divided by the number of images."""
        scale = self.logit_scale.exp()
        similarity = self.similarity(model, pooled)
        if similarity is None:
            return _nothing(pooled)
        logits = scale * similarity + self.logit_bias
        sign = 2 * torch.eye(len(logits), device=logits.device) - 1
        loss = -F.logsigmoid(sign * logits).sum() / len(logits)
        readings = {"sigmoid": loss, "logit_scale": scale, "logit_bias": self.logit_bias}
        return ObjectiveOutput(loss, {name: value.detach() for name, value in readings.items()})


def _nothing(pooled: Pooled) -> ObjectiveOutput:
    """The loss of a batch in which nothing can be contrasted."""
    return ObjectiveOutput(pooled.image.new_zeros(()), {})
