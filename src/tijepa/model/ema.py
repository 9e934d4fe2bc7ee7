"""The EMA copy that serves as target encoder: θ̄ ← τ θ̄ + (1 − τ) θ."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

__all__ = ["target_copy", "update_ema"]

M = TypeVar("M", bound=nn.Module)


def target_copy(context: M) -> M:
    """An equal copy in evaluation mode whose parameters take no gradient.

    Parameters that are frozen in `context` never move, so the copy shares them.
    """
    frozen = {id(p): p for p in context.parameters() if not p.requires_grad}
    target = copy.deepcopy(context, memo=dict(frozen))
    for parameter in target.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return target.eval()


@torch.no_grad()
def update_ema(target: nn.Module, context: nn.Module, momentum: float) -> None:
    """Move every parameter and every running statistic of `target` towards that of `context`.

    Frozen weights, which both share, stay where they are.

    Counters are copied. Names must agree one to one: a copy that silently stops moving is the
    classic fault of EMA with compiled modules, whose parameters are renamed.
    """
    source = context.state_dict()
    moved = target.state_dict()
    assert source.keys() == moved.keys(), source.keys() ^ moved.keys()
    shared = {name for name, value in moved.items() if value.data_ptr() == source[name].data_ptr()}
    own = [name for name in moved if name not in shared]
    smooth = [name for name in own if moved[name].is_floating_point()]
    if smooth:
        starts, ends = [moved[n] for n in smooth], [source[n] for n in smooth]
        torch._foreach_lerp_(starts, ends, 1.0 - momentum)
    for name in set(own) - set(smooth):
        moved[name].copy_(source[name])
