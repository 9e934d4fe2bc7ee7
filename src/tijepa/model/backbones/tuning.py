"""Which weights of a pretrained network are trained: none, last layers, low-rank updates, all."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tijepa.errors import ConfigError
from tijepa.model.backbones.lora import add_low_rank

__all__ = ["MODES", "Tuning", "layers_of"]

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
