"""What a frozen encoder makes of items, so that it need not run again: pooled tokens and tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Features"]


@dataclass(frozen=True)
class Features:
    """Features of b pictures or captions; `mask` is False at padding.

    `tokens` and `mask` are None where pooled tokens alone are kept.
    """

    pooled: Float[Tensor, "b p"]
    tokens: Float[Tensor, "b n d"] | None = None
    mask: Bool[Tensor, "b n"] | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def to(self, device: torch.device | str) -> Features:
        """The same on `device`."""
        return Features(
            self.pooled.to(device, non_blocking=True),
            None if self.tokens is None else self.tokens.to(device, non_blocking=True),
            None if self.mask is None else self.mask.to(device, non_blocking=True),
        )

    def rows(self, index: slice | Int[Tensor, " r"]) -> Features:
        """Some rows, in that order."""
        return Features(
            self.pooled[index],
            None if self.tokens is None else self.tokens[index],
            None if self.mask is None else self.mask[index],
        )

    def roll(self, shift: int) -> Features:
        """Every row `shift` places further, the last ones to the front."""
        return self.rows(torch.arange(len(self)).roll(shift))
