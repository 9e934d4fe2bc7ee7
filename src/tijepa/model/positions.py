"""Fixed sine-cosine positions (Vaswani et al. 2017, section 3.5; 2-D as in MAE and I-JEPA)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["positions_1d", "positions_2d"]


def positions_1d(count: int, width: int) -> Float[Tensor, "count width"]:
    """Positions of `count` tokens in a row; `width` is even.

    Frequencies fall geometrically from 1 to 1/10,000: the first half of a row holds the sines,
    the second half the cosines.
    """
    return _encode(torch.arange(count, dtype=torch.float64), width).float()


def positions_2d(rows: int, columns: int, width: int) -> Float[Tensor, "patches width"]:
    """Positions of `rows * columns` patches in row-major order; `width` is divisible by 4.

    Half of the width encodes the row, the other half the column.
    """
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    return torch.cat(
        [_encode(y.flatten(), width // 2), _encode(x.flatten(), width // 2)], dim=1
    ).float()


def _encode(position: Tensor, width: int) -> Tensor:
    frequency = 10_000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = position[:, None] * frequency[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
