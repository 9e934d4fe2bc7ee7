"""Pretrained weights into a network that may have low-rank updates of its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tijepa.errors import ConfigError

__all__ = ["load_pretrained"]

_UPDATES = ("lora_a", "lora_b")


def load_pretrained(net: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load all weights of `net` but its low-rank updates, in place.

    Raises `ConfigError` where a name or a shape differs; `name` is the backbone's.
    """
    own = {k: v for k, v in net.state_dict().items() if not k.endswith(_UPDATES)}
    for key in sorted(own.keys() | weights.keys()):
        ours, theirs = own.get(key), weights.get(key)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            raise ConfigError(
                f"backbone '{name}' does not fit its own description: {key} is {_shape(theirs)} "
                f"among its weights, {_shape(ours)} in the network; copy it anew"
            )
    net.load_state_dict(dict(weights), strict=False)


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))
