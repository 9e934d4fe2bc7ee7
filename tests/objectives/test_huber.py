from __future__ import annotations

import torch

from tijepa.objectives.energies import smooth_l1
from tijepa.objectives.huber import huber


def test_huber_by_hand() -> None:
    """δ = 2, errors 4 and 1: (2 (4 − 1) + 1/2) / 2 = 3.25."""
    energy = huber(delta=2.0)
    assert energy(torch.tensor([[4.0, 1.0]]), torch.zeros(1, 2)).item() == 3.25


def test_at_one_it_is_smooth_l1() -> None:
    p, y = 2 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(huber(delta=1.0)(p, y), smooth_l1(p, y))
