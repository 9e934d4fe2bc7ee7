"""Powers of one complex number instead of a sine and a cosine for each multiple."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.objectives.regularizers import harmonic_sums


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
