from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tijepa.model.predictors import CovariancePredictor


def alone(x: Tensor) -> Tensor:
    return x


def batch(items: int, dim: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(dim, dim, generator=generator)
    context = torch.randn(items, dim, generator=generator)
    return context + 1.0, context @ mixed + 0.5 * torch.randn(items, dim, generator=generator)


def covariance(x: Tensor) -> Tensor:
    return torch.cov(x.T)


def test_energy_is_the_mahalanobis_distance_less_what_no_context_changes() -> None:
    """½ (Cx − t)ᵀ C⁻¹ (Cx − t) = ½ xᵀCx − xᵀt + ½ tᵀC⁻¹t, centred x and t."""
    context, target = batch(50)
    predictor = CovariancePredictor(4, memory=1)
    predictor.observe(context, target, alone)
    x, t = context - context.mean(0), target - target.mean(0)
    c = covariance(target)
    error = x @ c - t
    whole = 0.5 * (error @ torch.linalg.inv(c) * error).sum(1)
    own = 0.5 * (t @ torch.linalg.inv(c) * t).sum(1)
    torch.testing.assert_close(
        4 * predictor.energy(context, target), whole - own, rtol=1e-4, atol=1e-4
    )


def test_gradient_is_the_error_of_prediction() -> None:
    """∂/∂x (½ xᵀCx − xᵀt) = Cx − t, here with 2 dimensions: divided by 2."""
    predictor = CovariancePredictor(2, memory=1)
    predictor.covariance.copy_(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
    x = torch.tensor([[1.0, -1.0]], requires_grad=True)
    predictor.energy(x, torch.tensor([[0.5, 0.25]])).sum().backward()
    # C x = (2 − 1, 1 − 3) = (1, −2); minus t = (0.5, −2.25)
    torch.testing.assert_close(x.grad, torch.tensor([[0.25, -1.125]]))


def test_forward_is_the_target_s_mean_plus_covariance_times_the_centred_context() -> None:
    context, target = batch(30)
    predictor = CovariancePredictor(4, memory=8)
    predictor.observe(context, target, alone)
    expected = target.mean(0) + (context - context.mean(0)) @ covariance(target)
    torch.testing.assert_close(predictor(context), expected)


@given(rho=st.floats(0.05, 0.95))
def test_a_dimension_rests_where_its_variance_is_its_correlation(rho: float) -> None:
    """x = a u, t = b v, E[uv] = ρ: the gradients a b² − b ρ and b a² − a ρ vanish at a² = b² = ρ.

    At a = b = 1 both are 1 − ρ > 0, so there it shrinks. 4,000 items, of which 3,999 are free.
    """
    u = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(1000)
    w = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(1000)  # uncorrelated with u
    v = rho * u + (1 - rho**2) ** 0.5 * w

    def slope(scale: float) -> float:
        a = torch.tensor(scale, requires_grad=True)
        predictor = CovariancePredictor(1, memory=1)
        target = (scale * v)[:, None]
        predictor.observe((a * u).detach()[:, None], target, alone)
        predictor.energy((a * u)[:, None], target).mean().backward()
        assert a.grad is not None
        return float(a.grad)

    assert slope(rho**0.5) == pytest.approx(0.0, abs=1e-3)
    assert slope(1.0) == pytest.approx(1 - rho, abs=1e-3)
    assert slope(0.01) < 0  # nearly constant: it grows


def test_the_first_batch_sets_the_covariance_and_later_ones_come_in_by_their_share() -> None:
    """Memory 8, batches of 2: shares 1, 1/2, 1/3, 1/4 and then 1/4 for ever.

    Targets ±a have the variance 2 a².
    """
    predictor = CovariancePredictor(1, memory=8)
    for variance in (4.0, 8.0, 0.0, 8.0, 1.0):
        a = (variance / 2) ** 0.5
        predictor.observe(torch.zeros(2, 1), torch.tensor([[a], [-a]]), alone)
    # 4, 6, 4, 5, and 5 + (1 − 5) / 4 = 4
    torch.testing.assert_close(predictor.covariance, torch.tensor([[4.0]]))
    # all five batches count the same where 8,192 items are remembered
    torch.testing.assert_close(predictor.exact_covariance, torch.tensor([[21 / 5]]))


def test_no_prediction_error_moves_the_means() -> None:
    """Σ over the batch of C x − t is zero, both being centred by the batch's own means."""
    context, target = batch(20)
    context.requires_grad_()
    predictor = CovariancePredictor(4, memory=100)
    for seed in (3, 4):
        predictor.observe(*batch(20, seed=seed), alone)
    predictor.observe(context.detach(), target, alone)
    predictor.energy(context, target).sum().backward()
    assert context.grad is not None
    torch.testing.assert_close(context.grad.sum(0), torch.zeros(4), rtol=0, atol=1e-4)


def test_evaluation_measures_by_the_moments_of_many_items() -> None:
    predictor = CovariancePredictor(4, memory=1)
    for seed in (5, 6):
        predictor.observe(*batch(20, seed=seed), alone)
    predictor.eval()
    context, target = batch(3)
    x = context - predictor.exact_context_mean
    t = target - predictor.exact_target_mean
    expected = (0.5 * (x @ predictor.exact_covariance) * x - x * t).mean(dim=1)
    torch.testing.assert_close(predictor.energy(context, target), expected)


def test_a_batch_larger_than_the_memory_is_all_that_is_remembered() -> None:
    predictor = CovariancePredictor(4, memory=16)
    for seed in (1, 2):
        context, target = batch(64, seed=seed)
        predictor.observe(context, target, alone)
    torch.testing.assert_close(predictor.covariance, covariance(target))
    torch.testing.assert_close(predictor.target_mean, target.mean(0))


def test_sums_over_processes_give_the_moments_of_all_items() -> None:
    """Two processes with the same 12 items: every sum doubles, and of 24 items 23 are free."""
    context, target = batch(12)
    one, two = CovariancePredictor(4, memory=1), CovariancePredictor(4, memory=1)
    one.observe(context, target, alone)
    two.observe(context, target, lambda x: 2 * x)
    for name, value in one.named_buffers():
        if name.endswith("mean"):
            torch.testing.assert_close(two.get_buffer(name), value)
    torch.testing.assert_close(two.covariance, one.covariance * 11 / 12 * 24 / 23)
    assert two.seen == 24


def test_moving_means_do_not_count_as_variance() -> None:
    """Two batches that vary alike around 0 and around 100: the covariance is that of either."""
    context, target = batch(40)
    predictor = CovariancePredictor(4, memory=1000)
    predictor.observe(context, target, alone)
    predictor.observe(context, target + 100, alone)
    torch.testing.assert_close(predictor.covariance, covariance(target), rtol=1e-3, atol=1e-3)


def test_there_is_nothing_to_train() -> None:
    assert list(CovariancePredictor(4, memory=1).parameters()) == []
