"""Energies of one prediction: low = compatible, ≥ 0, one number per row.

All are means over the last dimension, so that the weight of a task does not grow with the width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["ENERGIES", "Energy", "cosine", "smooth_l1", "squared_l2"]

Energy = Callable[[Tensor, Tensor], Tensor]


def squared_l2(
    predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b"]:
    """‖p − y‖² / d."""
    return (predicted - target).square().mean(dim=-1)


def smooth_l1(
    predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b"]:
    """Mean over d of e²/2 where |e| < 1 and |e| − 1/2 beyond (Huber, as in I-JEPA's code)."""
    return F.smooth_l1_loss(predicted, target, reduction="none").mean(dim=-1)


def cosine(predicted: Float[Tensor, "*b d"], target: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """1 − cos(p, y), from 0 to 2: half the squared L2 distance of the unit vectors."""
    return 1.0 - F.cosine_similarity(predicted, target, dim=-1)


ENERGIES: dict[str, Energy] = {
    "squared_l2": squared_l2,
    "smooth_l1": smooth_l1,
    "cosine": cosine,
}
