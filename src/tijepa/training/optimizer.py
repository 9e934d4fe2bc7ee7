"""AdamW over two groups: matrices decay, everything else does not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

__all__ = ["build_optimizer", "cosine", "set_schedules", "warmup_cosine"]


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


# Schedules: pure functions of the step.


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at step `steps` along half a cosine.

    end + (start − end) (1 + cos(π · step / steps)) / 2
    """
    progress = min(1.0, step / steps)
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def warmup_cosine(step: int, steps: int, warmup: int, peak: float, end: float) -> float:
    """Linear from peak / warmup at step 0 to `peak`, then a cosine to `end` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine(step - warmup, max(1, steps - warmup), peak, end)
