"""AdamW over two groups: matrices decay, everything else does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

__all__ = ["build_optimizer", "set_schedules"]


def build_optimizer(
    modules: Iterable[nn.Module],
    *,
    lr: float,
    betas: tuple[float, float],
    scaled: Sequence[tuple[nn.Module, float]] = (),
) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) on all parameters that take a gradient.

    Biases, norms, temperatures and mask or class tokens (fewer than two non-trivial axes) are not
    decayed. Learning rate and decay are set before every step by `set_schedules`; parameters of
    `scaled` modules learn at the rate times the module's factor.
    """
    scales = {id(p): scale for module, scale in scaled for p in module.parameters()}
    members: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                matrix = sum(side > 1 for side in parameter.shape) >= 2
                kind = (scales.get(id(parameter), 1.0), matrix)
                members.setdefault(kind, []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": 0.0, "decays": decays, "lr_scale": scale}
        for (scale, decays), parameters in members.items()
        if parameters
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def set_schedules(optimizer: torch.optim.Optimizer, *, lr: float, weight_decay: float) -> None:
    """Set this step's learning rate, and the decay of the groups that decay."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0
