"""Anti-collapse terms against formulas that are integrated or computed independently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.objectives.distributed import SingleProcess
from tijepa.objectives.regularizers import (
    Regularizer,
    SIGReg,
    VICReg,
    VISReg,
    Whitening,
    harmonic_sums,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_integral(a: float, reach: float = 3.0) -> float:
    """∫ exp(−a t²/2) dt from −reach to reach = √(2π/a) · erf(reach · √(a/2))."""
    return math.sqrt(2 * math.pi / a) * math.erf(reach * math.sqrt(a / 2))


def epps_pulley(x: np.ndarray) -> float:
    """The statistic of one projection by Simpson's rule on 6,001 points of [−3, 3]."""
    t = np.linspace(-3.0, 3.0, 6001)
    empirical = np.exp(1j * np.outer(t, x)).mean(axis=1)
    integrand = np.abs(empirical - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    simpson = np.full(len(t), 2.0)
    simpson[1::2] = 4.0
    simpson[[0, -1]] = 1.0
    return float(len(x) * (simpson * integrand).sum() * (t[1] - t[0]) / 3)


def test_full_collapse_at_the_origin_costs_its_closed_form() -> None:
    """All n points at 0: φ̂ = 1, so the statistic is n ∫ (1 − e^{−t²/2})² e^{−t²/2} dt.

    Expanded: G(1) − 2 G(2) + G(3) with G(a) = ∫ e^{−a t²/2} dt over [−3, 3]; about 0.402 per point.
    """
    closed = gaussian_integral(1) - 2 * gaussian_integral(2) + gaussian_integral(3)
    got = SIGReg(slices=8, samples=None, variance=0.0)(torch.zeros(10, 4), generator()).item()
    assert got == pytest.approx(10 * closed, rel=1e-3)
    assert epps_pulley(np.zeros(10)) == pytest.approx(10 * closed, rel=1e-6)


@given(x=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=12), slices=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_sigreg_is_the_epps_pulley_statistic(x: list[float], slices: int) -> None:
    """In one dimension every direction is ±1 and the statistic is even: no randomness is left."""
    penalty = SIGReg(slices=slices, samples=None, variance=0.0)
    got = penalty(torch.tensor(x)[:, None], generator()).item()
    assert got == pytest.approx(epps_pulley(np.array(x)), rel=2e-3, abs=2e-3)


def test_gaussian_samples_cost_what_sampling_noise_costs() -> None:
    """For n samples of N(0, 1), E n |φ̂ − φ|² = 1 − φ², so the mean is ∫ (1 − e^{−t²}) e^{−t²/2} dt.

    That is G(1) − G(3), about 1.05 whatever n; collapse costs about 0.4 n.
    """
    expected = gaussian_integral(1) - gaussian_integral(3)
    penalty = SIGReg(slices=64, variance=0.0)
    got = [
        penalty(torch.randn(64, 8, generator=generator(s)), generator(s + 1000)).item()
        for s in range(60)
    ]
    assert np.mean(got) == pytest.approx(expected, rel=0.05)
    assert penalty(torch.zeros(64, 8), generator()).item() > 20 * expected
    assert penalty(torch.full((64, 8), 3.0), generator()).item() > 20 * expected
    assert penalty(5 * torch.randn(64, 8, generator=generator()), generator()).item() > 5 * expected


def test_sigreg_sees_a_collapsed_direction_among_healthy_ones() -> None:
    healthy = torch.randn(256, 4, generator=generator())
    flat = healthy * torch.tensor([1.0, 1.0, 1.0, 0.0])
    penalty = SIGReg(slices=256)
    assert penalty(flat, generator()) > 1.5 * penalty(healthy, generator())


def test_sigreg_does_not_prefer_an_axis() -> None:
    """The directions are uniform on the sphere, so rotating the embedding changes only the draw."""
    z = torch.randn(32, 4, generator=generator()) * torch.tensor([2.0, 1.0, 0.5, 0.1])
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator(1)))
    penalty = SIGReg(slices=20_000)
    straight, rotated = penalty(z, generator(2)), penalty(z @ rotation, generator(3))
    torch.testing.assert_close(straight, rotated, rtol=0.02, atol=0)


def test_directions_come_from_the_generator_alone() -> None:
    z = torch.randn(16, 8, generator=generator())
    penalty = SIGReg(slices=4)
    first = penalty(z, generator(5))
    torch.manual_seed(99)
    assert torch.equal(first, penalty(z, generator(5)))
    assert not torch.equal(first, penalty(z, generator(6)))


def test_the_gradient_vanishes_at_full_collapse() -> None:
    """At the origin ∂φ̂/∂x_k = i t / n is imaginary, the error φ̂ − φ = 1 − φ real: no slope."""
    z = torch.zeros(8, 4, requires_grad=True)
    SIGReg(slices=16)(z, generator()).backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(8, 4))


def test_nothing_pulls_equal_embeddings_apart() -> None:
    """Collapse elsewhere: the same pull towards the origin for all, none that separates them."""
    z = torch.tensor([0.5, -1.0, 0.3]).repeat(8, 1).requires_grad_()
    SIGReg(slices=16)(z, generator()).backward()
    assert z.grad is not None
    assert z.grad[0].abs().max() > 1e-2
    torch.testing.assert_close(z.grad, z.grad[:1].expand(8, -1))


def test_sigreg_spreads_almost_collapsed_embeddings() -> None:
    """Descent from a tight cluster must reach unit standard deviation, or it prevents nothing."""
    z = (0.05 * torch.randn(64, 3, generator=generator())).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    penalty, directions = SIGReg(slices=32), generator(1)
    for _ in range(200):
        optimizer.zero_grad()
        penalty(z, directions).backward()
        optimizer.step()
    torch.testing.assert_close(z.detach().std(dim=0), torch.ones(3), atol=0.15, rtol=0)


def variance_term(z: torch.Tensor, slices: int = 16) -> float:
    """What `variance` of weight 1 adds to SIGReg."""
    with_it = SIGReg(slices=slices, variance=1.0)(z, generator(4))
    return float(with_it - SIGReg(slices=slices, variance=0.0)(z, generator(4)))


@given(x=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=9))
@settings(deadline=None, max_examples=40)
def test_the_variance_term_of_one_dimension_by_hand(x: list[float]) -> None:
    """d = 1, n points: directions are ±1, so v is the sample variance whatever is drawn.

    Two points ±a: v = 2a², so (2a² − 2)² from a = 1 on: 4 at a² = 2, 0 at 1.
    """
    v = float(np.var(np.array(x), ddof=1))
    got = variance_term(torch.tensor(x)[:, None])
    assert got == pytest.approx(max(0, v - 2) ** 2, rel=1e-4, abs=1e-3 * (1 + v))
    assert variance_term(torch.tensor([[2**0.5], [-(2**0.5)]])) == pytest.approx(4, abs=1e-4)
    assert variance_term(torch.tensor([[1.0], [-1.0]])) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("n", "most"), [(8, 0.06), (64, 1e-3)])
def test_the_variance_term_hardly_sees_embeddings_as_they_should_be(n: int, most: float) -> None:
    """v of a Gaussian is χ² of n − 1 over n − 1: beyond 2 with a chance of 5 % at 8, 10⁻⁵ at 64.

    The variances of the dimensions are 1/2 and 3/2 here, which is more unequal than in training.
    """
    scale = torch.tensor([0.5, 1.5]).sqrt().repeat(32)
    each = [
        variance_term(scale * torch.randn(n, 64, generator=generator(s)), slices=256)
        for s in range(20)
    ]
    assert 0 <= float(np.mean(each)) < most


def test_embeddings_that_escaped_come_back_by_their_variance_alone() -> None:
    """The bug: at a high rate of learning, texts were embedded at 50 standard deviations, where
    exp(i t x) of 16 knots and many directions points everywhere, and nothing brought them back."""

    def longest(variance: float) -> float:
        z = torch.randn(64, 16, generator=generator())
        z[:4] *= 30
        z.requires_grad_()
        optimizer = torch.optim.SGD([z], lr=0.5)
        penalty, directions = SIGReg(slices=64, variance=variance), generator(1)
        for _ in range(300):
            optimizer.zero_grad()
            penalty(z, directions).backward()
            optimizer.step()
        return float(z.detach().norm(dim=1).max()) / 16**0.5

    assert longest(0.0) > 15
    assert longest(1.0) < 5


def test_vicreg_variance_by_hand() -> None:
    """Points (1, 0) and (−1, 0): variances 2 and 0 (n − 1 = 1).

    With ε = 0.25 the stds are 1.5 and 0.5, the hinges 0 and 0.5, their mean 0.25.
    """
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert VICReg(covariance_weight=1.0, epsilon=0.25)(z, generator()).item() == 0.25


def test_vicreg_covariance_by_hand() -> None:
    """Points (1, 1) and (−1, −1): covariance all 2, off-diagonal squares 4 + 4, over d = 2: 4."""
    z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert VICReg(covariance_weight=0.5, epsilon=0.0)(z, generator()).item() == 2.0


@given(seed=st.integers(0, 100), shift=st.floats(-10, 10))
@settings(deadline=None, max_examples=20)
def test_vicreg_ignores_the_mean_and_the_order(seed: int, shift: float) -> None:
    z = torch.randn(9, 4, generator=generator(seed))
    penalty = VICReg(covariance_weight=0.3, epsilon=1e-4)
    expected = penalty(z, generator())
    torch.testing.assert_close(penalty(z + shift, generator()), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(penalty(z.flip(0), generator()), expected)


def test_vicreg_is_small_for_independent_unit_variance_and_near_one_at_collapse() -> None:
    z = torch.randn(4096, 8, generator=generator())
    penalty = VICReg(covariance_weight=0.04, epsilon=1e-4)
    assert penalty(z, generator()).item() < 0.05
    assert penalty(torch.ones(16, 8), generator()).item() == pytest.approx(0.99, abs=1e-6)


def spread_of(gradient: torch.Tensor) -> float:
    """The part of a gradient that moves embeddings relative to one another."""
    return float((gradient - gradient.mean(dim=0)).norm())


def gradient_of(penalty: Regularizer, z: torch.Tensor) -> torch.Tensor:
    leaf = z.clone().requires_grad_()
    penalty(leaf, generator(3)).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_visreg_by_hand_on_two_points() -> None:
    """Points 0 and 6 in one dimension: μ = 3, σ = 3, standardised −1 and 1.

    Scale (3 − 1)² = 4, centre 3² = 9. Of N(0, 1) the lower half has mean −√(2/π) and the upper
    √(2/π), so the shape costs (1 − √(2/π))², whatever the sign of a direction in one dimension.
    """
    z = torch.tensor([[0.0], [6.0]])
    expected = 4 + 9 + (1 - math.sqrt(2 / math.pi)) ** 2
    assert VISReg(slices=3)(z, generator()).item() == pytest.approx(expected, rel=1e-6)


def test_visreg_by_hand_on_three_points() -> None:
    """Points −1, 0, 1: μ = 0, σ = √(2/3), standardised ±√1.5 and 0.

    A third of N(0, 1) lies below q = −0.4307273; that third has mean −3 pdf(q) = −1.0907993, the
    middle one 0. Scale (1 − √(2/3))² = 0.0336735, shape 2/3 (√1.5 − 1.0907993)² = 0.0119609.
    """
    z = torch.tensor([[0.0], [1.0], [-1.0]])
    assert VISReg(slices=1)(z, generator()).item() == pytest.approx(0.0336735 + 0.0119609, abs=2e-6)


@given(seed=st.integers(0, 50), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
@settings(deadline=None, max_examples=25)
def test_scale_and_shift_cost_visreg_only_their_own_terms(
    seed: int, scale: float, shift: float
) -> None:
    """Shape is invariant, so the rest of the penalty is mean (σ − 1)² + mean μ² by definition."""
    z = torch.randn(12, 3, generator=generator(seed)).double()

    def shape(x: torch.Tensor) -> float:
        scale_term = (x.std(dim=0, correction=0) - 1).square().mean()
        total = VISReg(slices=8)(x.float(), generator(1)).item()
        return total - float(scale_term + x.mean(dim=0).square().mean())

    moved = scale * z + shift
    assert shape(moved) == pytest.approx(shape(z), abs=1e-4 * (1 + scale**2 + shift**2))
    assert shape(z) > 0


def test_visreg_still_pulls_where_sigreg_has_let_go() -> None:
    """A cluster of size δ. SIGReg's pull apart is linear in δ; VISReg's scale term has the gradient
    2 (σ − 1) u / (n d), of one size for every δ."""
    u = torch.randn(32, 4, generator=generator())
    sizes = (1e-1, 1e-2, 1e-3)
    sigreg = [spread_of(gradient_of(SIGReg(slices=16), size * u)) for size in sizes]
    visreg = [spread_of(gradient_of(VISReg(slices=16), size * u)) for size in sizes]
    assert sigreg[2] < 0.02 * sigreg[0]
    assert visreg[2] > 0.9 * visreg[0]


def test_visreg_pulls_equal_embeddings_apart_and_sigreg_does_not() -> None:
    z = torch.tensor([0.5, -1.0, 0.25, 0.0]).repeat(8, 1)
    assert spread_of(gradient_of(SIGReg(slices=16), z)) < 1e-6
    pull = gradient_of(VISReg(slices=16), z)
    assert torch.isfinite(pull).all()
    assert spread_of(pull) > 1.0


@pytest.mark.parametrize(("penalty", "back"), [(VISReg(slices=32), True), (SIGReg(32), False)])
def test_only_visreg_brings_equal_embeddings_back(penalty: Regularizer, back: bool) -> None:
    z = torch.full((64, 3), 0.5).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    directions = generator(1)
    for _ in range(80):
        optimizer.zero_grad()
        penalty(z, directions).backward()
        optimizer.step()
    std = z.detach().std(dim=0)
    assert std.min() > 0.2 if back else std.max() < 1e-3


def test_visreg_spreads_almost_collapsed_embeddings_to_a_gaussian() -> None:
    z = (0.05 * torch.randn(64, 3, generator=generator())).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    penalty, directions = VISReg(slices=32), generator(1)
    for _ in range(200):
        optimizer.zero_grad()
        penalty(z, directions).backward()
        optimizer.step()
    torch.testing.assert_close(z.detach().std(dim=0), torch.ones(3), atol=0.1, rtol=0)
    assert (torch.corrcoef(z.detach().T) - torch.eye(3)).abs().max() < 0.2


def test_visreg_sees_dimensions_that_repeat_one_another() -> None:
    """Every dimension is standard normal: only the joint shape tells the two apart."""
    independent = torch.randn(256, 4, generator=generator())
    repeated = independent[:, :1].expand(-1, 4)
    penalty = VISReg(slices=64)
    assert penalty(repeated, generator()) > 5 * penalty(independent, generator())


@given(copies=st.integers(2, 8))
def test_sigreg_weighs_an_item_as_the_energy_does_whatever_the_batch(copies: int) -> None:
    """The same items k times over: the same value, 1 / k of the gradient for each, as of a mean.

    With the factor n, as published, the value is k times as large and the gradient the same.
    Without the variance term, whose v knows that a batch is a sample.
    """
    z = torch.randn(6, 3, generator=generator())
    many = z.repeat(copies, 1)

    def both(penalty: SIGReg, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.clone().requires_grad_()
        value = penalty(x, generator())
        value.backward()
        assert x.grad is not None
        return value.detach(), x.grad[:6]

    value, gradient = both(SIGReg(slices=16, variance=0.0), z)
    value_of_many, gradient_of_many = both(SIGReg(slices=16, variance=0.0), many)
    torch.testing.assert_close(value_of_many, value)
    torch.testing.assert_close(gradient_of_many, gradient / copies)
    as_published = SIGReg(slices=16, samples=None, variance=0.0)
    published, of_published = both(as_published, z)
    published_of_many, of_published_of_many = both(as_published, many)
    torch.testing.assert_close(published_of_many, copies * published)
    torch.testing.assert_close(of_published_of_many, of_published)


def stein(rows: list[list[float]], epsilon: float = 1e-3) -> float:
    penalty = Whitening(epsilon=epsilon, processes=SingleProcess())
    return float(penalty(torch.tensor(rows), torch.Generator()))


def test_whitening_by_hand() -> None:
    """Rows (1, 0), (−1, 0), (0, 2), (0, −2): variances 2/3 and 8/3, no covariance.

    (2/3 + 8/3 − log(16/9) − 2) / 2 = (4/3 − 0.5754) / 2 = 0.3790, but for ε.
    """
    rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]
    assert stein(rows, 1e-6) == pytest.approx((4 / 3 - math.log(16 / 9)) / 2, abs=1e-4)


def test_white_rows_cost_nothing_and_constants_the_logarithm_of_epsilon() -> None:
    half = math.sqrt(1.5)
    assert stein([[half, 0.0], [-half, 0.0], [0.0, half], [0.0, -half]]) == pytest.approx(
        0, abs=1e-5
    )
    assert stein([[3.0, 1.0]] * 4) == pytest.approx(1e-3 - math.log(1e-3) - 1, abs=1e-4)
    double = [[half, half], [-half, -half], [1.0, 1.0], [-1.0, -1.0]]
    assert stein(double) > 2  # two dimensions that say the same


# Powers of one complex number instead of a sine and a cosine for each multiple.


def direct(theta: torch.Tensor, highest: int) -> torch.Tensor:
    angle = theta[None] * torch.arange(1, highest + 1, dtype=theta.dtype)[:, None, None]
    return torch.stack([angle.cos().sum(dim=1), angle.sin().sum(dim=1)])


def test_a_right_angle_by_hand() -> None:
    """θ = π/2: multiples have cosine 0, −1, 0, 1 and sine 1, 0, −1, 0."""
    got = harmonic_sums(torch.full((1, 1), torch.pi / 2, dtype=torch.float64), 4)[:, :, 0]
    expected = torch.tensor([[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, -1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-4, 0.2, 3.0]), highest=st.integers(1, 16))
@settings(deadline=None, max_examples=40)
def test_sums_and_gradient_equal_the_direct_ones(seed: int, scale: float, highest: int) -> None:
    """In float32, against sines and cosines in float64; a sum of 9 terms of size 1."""
    generator = torch.Generator().manual_seed(seed)
    theta = (scale * torch.randn(9, 5, generator=generator)).requires_grad_()
    exact = theta.detach().double().requires_grad_()
    weight = torch.randn(2, highest, 5, generator=generator)
    got, expected = harmonic_sums(theta, highest), direct(exact, highest)
    torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=0)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(theta.grad.double(), exact.grad, atol=5e-4, rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    theta = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: harmonic_sums(x, 5), (theta.requires_grad_(),))
