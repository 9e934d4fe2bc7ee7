"""Which weights of a pretrained network are trained: none, last layers, low-rank updates, all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.errors import ConfigError

MODES = ("frozen", "last_k", "lora", "full")


@dataclass(frozen=True)
class Tuning:
    """`mode`, the number of `layers` that "last_k" trains, and the `rank` of "lora"."""

    mode: str = "frozen"
    layers: int = 2
    rank: int = 8

    def apply(self, net: nn.Module) -> None:
        """Set what takes a gradient, and add the low-rank updates.

        "last_k" also trains what comes after the last layer (the final norm). Raises `ConfigError`
        where the network has fewer layers, or none that can be told apart.
        """
        assert self.mode in MODES, self.mode
        net.requires_grad_(self.mode == "full")
        if self.mode == "lora":
            add_low_rank(_layers(net), self.rank)
        elif self.mode == "last_k":
            stack = _layers(net)
            if self.layers > len(stack):
                raise ConfigError(
                    f"last_k is {self.layers}, and the backbone has {len(stack)} layers: lower it, "
                    "or use train=full"
                )
            for layer in list(stack)[-self.layers :]:
                layer.requires_grad_(True)
            inside, passed = {id(p) for p in stack.parameters()}, False
            for parameter in net.parameters():  # in order of definition, which is that of use
                if id(parameter) in inside:
                    passed = True
                elif passed:
                    parameter.requires_grad_(True)


def layers_of(net: nn.Module) -> nn.Module | None:
    """The outermost list of layers of a network; None where there is none."""
    return next(
        (
            part
            for part in net.modules()
            if isinstance(part, (nn.ModuleList, nn.Sequential)) and len(part)
        ),
        None,
    )


def _layers(net: nn.Module) -> nn.ModuleList | nn.Sequential:
    stack = layers_of(net)
    if not isinstance(stack, (nn.ModuleList, nn.Sequential)):
        raise ConfigError("the backbone has no list of layers: use train=frozen or train=full")
    return stack


# Low-rank updates of frozen linear maps (LoRA, Hu et al. 2021, arXiv 2106.09685).


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
