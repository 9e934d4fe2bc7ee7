from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tijepa.model.predictors import CovariancePredictor
from tijepa.objectives.energies import (
    ByCovariance,
    ByPrediction,
    Energy,
    cosine,
    huber,
    smooth_l1,
    squared_l2,
)
from tijepa.registry import part

ENERGIES = {name: part("energy", name) for name in ("squared_l2", "smooth_l1", "cosine")}


def pairs(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(2, 3, 4, 5, generator=generator) * scale
    return made[0], made[1]


def test_squared_l2_by_hand() -> None:
    """((1 − 3)² + (2 − 2)²) / 2 = 2 and (0² + 1²) / 2 = 1/2: one number per row."""
    energy = squared_l2(
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0, 2.0], [0.0, 0.0]])
    )
    assert torch.equal(energy, torch.tensor([2.0, 0.5]))


def test_smooth_l1_by_hand() -> None:
    """Errors 2 and 1/2: (2 − 1/2 + (1/2)²/2) / 2 = (3/2 + 1/8) / 2 = 13/16."""
    assert smooth_l1(torch.tensor([[2.0, 0.5]]), torch.zeros(1, 2)).item() == 0.8125


def test_cosine_by_hand() -> None:
    """The angle of (3, 0) and (1, 1) is 45°: 1 − 1/√2. Opposite vectors: 2."""
    p = torch.tensor([[3.0, 0.0], [2.0, 1.0]])
    y = torch.tensor([[1.0, 1.0], [-4.0, -2.0]])
    torch.testing.assert_close(cosine(p, y), torch.tensor([1 - 1 / math.sqrt(2), 2.0]))


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 30.0]))
@settings(deadline=None, max_examples=30)
def test_smooth_l1_is_the_huber_loss(seed: int, scale: float) -> None:
    p, y = pairs(seed, scale)
    huber = F.huber_loss(p, y, reduction="none", delta=1.0).mean(dim=-1)
    torch.testing.assert_close(smooth_l1(p, y), huber)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-2, 1.0, 1e3]))
@settings(deadline=None, max_examples=30)
def test_cosine_is_half_the_squared_distance_of_unit_vectors(seed: int, scale: float) -> None:
    """‖u − v‖² = 2 − 2 u·v for unit vectors, so half of it is 1 − cos; lengths do not matter."""
    p, y = pairs(seed, scale)
    distance = (F.normalize(p, dim=-1) - F.normalize(y, dim=-1)).square().sum(dim=-1) / 2
    torch.testing.assert_close(cosine(p, y), distance, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-2, 1.0, 1e3]))
@settings(deadline=None, max_examples=20)
def test_an_energy_is_zero_at_equality_and_positive_elsewhere(
    energy: Energy, seed: int, scale: float
) -> None:
    p, y = pairs(seed, scale)
    assert energy(p, y).shape == (3, 4)
    assert (energy(p, y) > 0).all()
    assert (energy(p, p).abs() <= 1e-6).all()


@pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)
def test_an_energy_does_not_grow_with_the_width(energy: Energy) -> None:
    """Repeating every entry leaves means and angles as they are."""
    p, y = pairs(0)
    torch.testing.assert_close(energy(p.repeat(1, 1, 3), y.repeat(1, 1, 3)), energy(p, y))


@pytest.mark.parametrize("energy", ENERGIES.values(), ids=ENERGIES)
def test_energies_have_finite_gradients_also_at_zero_and_at_equality(energy: Energy) -> None:
    for p, y in ((torch.zeros(2, 3), torch.ones(2, 3)), (torch.ones(2, 3), torch.ones(2, 3))):
        own = p.requires_grad_()
        energy(own, y).sum().backward()
        assert own.grad is not None
        assert torch.isfinite(own.grad).all()


def test_huber_by_hand() -> None:
    """δ = 2, errors 4 and 1: (2 (4 − 1) + 1/2) / 2 = 3.25."""
    energy = huber(delta=2.0)
    assert energy(torch.tensor([[4.0, 1.0]]), torch.zeros(1, 2)).item() == 3.25


def test_at_one_it_is_smooth_l1() -> None:
    p, y = 2 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(huber(delta=1.0)(p, y), smooth_l1(p, y))


def test_by_prediction_compares_what_is_predicted() -> None:
    """Identity as predictor: (1² + 2²) / 2 = 2.5."""
    energy = ByPrediction(squared_l2)(
        nn.Identity(), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])
    )
    torch.testing.assert_close(energy, torch.tensor([2.5]))


def test_by_covariance_takes_in_the_batch_while_training_only() -> None:
    predictor = CovariancePredictor(3, memory=1)
    context, target = torch.randn(8, 3), torch.randn(8, 3)
    predictor.eval()
    ByCovariance()(predictor, context, target)
    assert predictor.seen == 0
    predictor.train()
    energy = ByCovariance()(predictor, context, target)
    assert predictor.seen == 8
    torch.testing.assert_close(predictor.target_mean, target.mean(0))
    torch.testing.assert_close(energy, predictor.energy(context, target))
