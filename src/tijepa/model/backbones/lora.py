"""Low-rank updates of frozen linear maps (LoRA, Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["LowRankLinear", "add_low_rank"]


class LowRankLinear(nn.Module):
    """W x + b + B A x: `weight` and `bias` keep their names, A and B are what is trained.

    B starts at 0, so that the map starts as the pretrained one; the update is scaled by 2, as
    alpha = 2 · rank does in the paper's form. `rank` is cut to what the map can have.
    """

    scale = 2.0

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        rank = min(rank, linear.in_features, linear.out_features)
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.lora_a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.normal_(self.lora_a, std=linear.in_features**-0.5)

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """Map the last axis."""
        low = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * low


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Give every linear map inside `module` a low-rank update."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, LowRankLinear(child, rank))
        else:
            add_low_rank(child, rank)
