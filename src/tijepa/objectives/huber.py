"""The Huber loss as an energy: squares for small errors, absolute values for large ones."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.energies import Energy
from tijepa.registry import Positive, Section, register


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
