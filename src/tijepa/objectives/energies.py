"""Energies of one prediction: low = compatible, ≥ 0, one number per row.

All are means over the last dimension, so that the weight of a task does not grow with the width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.predictors import CovariancePredictor
from tijepa.objectives.distributed import Distributed, SingleProcess
from tijepa.registry import Positive, Section, register

Energy = Callable[[Tensor, Tensor], Tensor]


@register("energy", "squared_l2")
def squared_l2(
    predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b"]:
    """‖p − y‖² / d."""
    return (predicted - target).square().mean(dim=-1)


@register("energy", "smooth_l1")
def smooth_l1(
    predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b"]:
    """Mean over d of e²/2 where |e| < 1 and |e| − 1/2 beyond (Huber, as in I-JEPA's code)."""
    return F.smooth_l1_loss(predicted, target, reduction="none").mean(dim=-1)


@register("energy", "cosine")
def cosine(predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """1 − cos(p, y), from 0 to 2: half the squared L2 distance of the unit vectors."""
    return 1.0 - F.cosine_similarity(predicted, target, dim=-1)


class HuberConfig(Section):
    """What `huber` is set by."""

    delta: Positive = 0.5  # error from which it grows linearly; 1 is smooth_l1


@register("energy", "huber", config=HuberConfig)
def huber(*, delta: float) -> Energy:
    """Mean over d of e²/2 where |e| < δ and δ (|e| − δ/2) beyond (Huber 1964)."""

    def energy(
        predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b"]:
        return F.huber_loss(predicted, target, reduction="none", delta=delta).mean(dim=-1)

    return energy


# How a pooled prediction is compared with its target: by one of the energies, or by covariance.


# predictor, context's embeddings, targets (fixed) → the energy of each pair
PooledEnergy = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ByPrediction:
    """E(g(context), target) of a trained predictor g."""

    energy: Energy

    def __call__(
        self, predictor: nn.Module, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """The energy of each pair."""
        return self.energy(predictor(context), target)


@dataclass(frozen=True)
class ByCovariance:
    """½ xᵀ C x − xᵀ t (`model/predictors.py`), C from the batch in all `processes`."""

    processes: Distributed = field(default_factory=SingleProcess)

    def __call__(
        self, predictor: nn.Module, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """The energy of each pair; while training the predictor first takes in the batch."""
        assert isinstance(predictor, CovariancePredictor), type(predictor)
        if predictor.training:
            predictor.observe(context, target, self.processes.total)
        return predictor.energy(context, target)
