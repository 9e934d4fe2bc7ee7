from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tijepa.model.mlp import MLP


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_depth_zero_is_one_linear_map(norm: str) -> None:
    mlp = MLP(inputs=3, hidden=99, outputs=2, depth=0, norm=norm)
    assert [p.shape for p in mlp.parameters()] == [(2, 3), (2,)]
    x = torch.randn(4, 3)
    weight, bias = mlp.parameters()
    torch.testing.assert_close(mlp(x), x @ weight.T + bias)


def test_depth_one_is_linear_norm_gelu_linear() -> None:
    torch.manual_seed(0)
    mlp = MLP(inputs=3, hidden=5, outputs=2, depth=1, norm="batch")
    x = torch.randn(8, 3)
    first, last = (m for m in mlp.modules() if isinstance(m, nn.Linear))
    hidden = x @ first.weight.T
    standard = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, correction=0) + 1e-5).sqrt()
    expected = F.gelu(standard) @ last.weight.T + last.bias
    torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_counts_hidden_layers(depth: int) -> None:
    mlp = MLP(inputs=3, hidden=5, outputs=2, depth=depth, norm="batch")
    linear = [(m.in_features, m.out_features) for m in mlp.modules() if isinstance(m, nn.Linear)]
    assert len(linear) == depth + 1
    assert linear[0][0] == 3
    assert linear[-1][1] == 2
    assert sum(isinstance(m, nn.BatchNorm1d) for m in mlp.modules()) == depth


def test_without_norm_items_do_not_influence_each_other() -> None:
    torch.manual_seed(0)
    mlp = MLP(inputs=3, hidden=5, outputs=2, depth=2, norm="none")
    x = torch.randn(8, 3)
    torch.testing.assert_close(mlp(x)[:3], mlp(x[:3]))


def test_evaluation_mode_uses_running_statistics_so_items_are_independent() -> None:
    torch.manual_seed(0)
    mlp = MLP(inputs=3, hidden=5, outputs=2, depth=2, norm="batch")
    mlp(torch.randn(16, 3))
    mlp.eval()
    x = torch.randn(8, 3)
    torch.testing.assert_close(mlp(x)[:1], mlp(x[:1]))


def test_with_a_skip_it_starts_as_a_line_and_learns_more() -> None:
    torch.manual_seed(0)
    mlp = MLP(inputs=3, hidden=5, outputs=2, depth=1, norm="batch", skip=True)
    x = torch.randn(7, 3)
    assert mlp.skip is not None
    assert torch.equal(mlp(x), mlp.skip(x))
    mlp(x).square().sum().backward()
    weight = mlp.layers[-1].weight
    assert isinstance(weight, torch.nn.Parameter)
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0
    torch.nn.init.ones_(weight)
    assert not torch.allclose(mlp(x), mlp.skip(x))


def test_one_linear_map_needs_no_skip() -> None:
    names = {name for name, _ in MLP(inputs=3, hidden=5, outputs=2, depth=0).named_parameters()}
    assert names == {"layers.0.weight", "layers.0.bias"}
