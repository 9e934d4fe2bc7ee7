"""AdamW over two groups (matrices decay, everything else does not), and what is scheduled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ScheduleValues:
    """The scheduled numbers of one step."""

    lr: float
    weight_decay: float
    ema_momentum: float


@dataclass(frozen=True)
class Schedule:
    """Learning rate, weight decay and EMA momentum as functions of the step, of `steps` in all.

    The rate rises over `warmup` steps to `lr` and falls by a cosine to `final_lr` times that;
    `weight_decay` and `ema_momentum` go from their first number to their second.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 0
    final_lr: float = 0.0
    weight_decay: tuple[float, float] = (0.05, 0.05)
    ema_momentum: tuple[float, float] = (0.996, 1.0)

    def at(self, step: int, lr_scale: float = 1.0) -> ScheduleValues:
        """The values of the update after `step` updates, its rate times `lr_scale`."""
        peak = lr_scale * self.lr
        return ScheduleValues(
            lr=warmup_cosine(step, self.steps, self.warmup, peak, self.final_lr * peak),
            weight_decay=cosine(step, self.steps, *self.weight_decay),
            ema_momentum=cosine(step, self.steps, *self.ema_momentum),
        )


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


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at step `steps` along half a cosine.

    end + (start − end) (1 + cos(π · step / steps)) / 2
    """
    progress = min(1.0, step / max(1, steps))
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def warmup_cosine(step: int, steps: int, warmup: int, peak: float, end: float) -> float:
    """Linear from peak / warmup at step 0 to `peak`, then a cosine to `end` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine(step - warmup, max(1, steps - warmup), peak, end)
