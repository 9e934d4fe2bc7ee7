"""Labels told by prompts: which prompts there are, and the energy of a label from theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.errors import DataError

__all__ = ["energy_of_labels", "prompt_list"]


def prompt_list(labels: Mapping[str, str | Sequence[str]]) -> list[list[str]]:
    """The prompts of each label; `DataError` where there is no label, or no prompt for one."""
    if not isinstance(labels, Mapping):
        raise DataError(
            'labels are no mapping: give each label its prompts, such as {"cat": ["a cat"]}'
        )
    if not labels:
        raise DataError('there are no labels: give at least one, such as {"cat": ["a cat"]}')
    prompts = [[own] if isinstance(own, str) else list(own) for own in labels.values()]
    for label, own in zip(labels, prompts, strict=True):
        if not own:
            raise DataError(f"label '{label}' has no prompt: give one, such as 'a {label}'")
    return prompts


def energy_of_labels(energy: Float[Tensor, "i t"], prompts: Sequence[int]) -> Float[Tensor, "i l"]:
    """The mean energy of each label's prompts; `prompts` says how many columns each label has.

    A mean of energies is a mean of the logits of a match, which are linear in the energy.
    """
    assert energy.shape[1] == sum(prompts), (energy.shape, prompts)
    parts = torch.split(energy, list(prompts), dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)
