"""Targets over the items of the batch, or over their own dimensions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tijepa.model.mlp import TARGET_NORMS, BatchTargetNorm

X = torch.tensor([[1.0, 10.0], [3.0, 30.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [[1.0, 10.0], [3.0, 30.0]]),
        ("center", [[-1.0, -10.0], [1.0, 10.0]]),  # means 2 and 20
        ("standardise", [[-1.0, -1.0], [1.0, 1.0]]),  # standard deviations 1 and 10
        ("layer", [[-1.0, 1.0], [-1.0, 1.0]]),  # each row over its two values
    ],
)
def test_values_by_hand(name: str, expected: list[list[float]]) -> None:
    got = TARGET_NORMS[name](2).train()(X)
    torch.testing.assert_close(got, torch.tensor(expected), atol=1e-4, rtol=0)


def test_evaluation_uses_the_running_average() -> None:
    """Momentum a quarter: mean 0 → 0.5 and 5, variance 1 → 1 and 0.75 + 0.25 · 100 = 25.75."""
    norm = BatchTargetNorm(2, scale=True, momentum=0.25, epsilon=0.0)
    norm.train()(X)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.5, 5.0]))
    torch.testing.assert_close(norm.running_var, torch.tensor([1.0, 25.75]))
    one = norm.eval()(X[:1])
    torch.testing.assert_close(one, torch.tensor([[0.5, 5 / 25.75**0.5]]))
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.5, 5.0]))


def test_standardising_equals_batch_norm_without_weights() -> None:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    expected = nn.BatchNorm1d(5, affine=False).train()(x)
    torch.testing.assert_close(BatchTargetNorm(5, scale=True).train()(x), expected)


@pytest.mark.parametrize("name", ["none", "layer"])
def test_norms_of_single_items_keep_no_state(name: str) -> None:
    assert not TARGET_NORMS[name](2).state_dict()
