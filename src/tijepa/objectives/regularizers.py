"""Anti-collapse terms on the pooled embeddings of one modality."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Regularizer", "SIGReg", "VICReg"]


@runtime_checkable
class Regularizer(Protocol):
    """A penalty on a batch of embeddings; `generator` feeds what is random in it."""

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Zero at best."""
        ...


class SIGReg:
    """Sketched isotropic Gaussian regularization (LeJEPA, arXiv 2511.08544, section 4).

    On each of `slices` random unit directions a, the Epps-Pulley statistic of the n projections
    x = aᵀz against N(0, 1):

        n ∫ |φ̂(t) − exp(−t²/2)|² exp(−t²/2) dt,   φ̂(t) = mean over the batch of exp(i t x),

    integrated by the trapezoid rule on 17 knots over [0, 3] (the integrand is even), averaged over
    the directions. Nothing pulls fully collapsed embeddings apart: equal embeddings have equal
    gradients, which vanish at the origin.
    """

    def __init__(self, slices: int = 256, knots: int = 17, reach: float = 3.0) -> None:
        self.slices = slices
        t = torch.linspace(0.0, reach, knots)
        window = torch.exp(-t.square() / 2)
        trapezoid = torch.full((knots,), 2 * reach / (knots - 1))
        trapezoid[[0, -1]] /= 2
        self.t = t
        self.gaussian = window
        self.weight = trapezoid * window

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """The mean statistic over fresh directions."""
        n, d = embedding.shape
        device = embedding.device
        directions = torch.randn(d, self.slices, generator=generator).to(device)
        directions = directions / directions.norm(dim=0)
        projected = embedding @ directions
        angle = projected[:, :, None] * self.t.to(device)
        real = angle.cos().mean(dim=0) - self.gaussian.to(device)
        imaginary = angle.sin().mean(dim=0)
        error: Tensor = real.square() + imaginary.square()
        return n * (error * self.weight.to(device)).sum(dim=-1).mean()


class VICReg:
    """Variance hinge and covariance (arXiv 2105.04906, equations 1 to 4).

    mean over dimensions of max(0, 1 − std), plus `covariance_weight` times the sum of squared
    off-diagonal covariances divided by d. The published ratio of variance to covariance is 25 : 1.
    """

    def __init__(self, covariance_weight: float = 0.04, epsilon: float = 1e-4) -> None:
        self.covariance_weight = covariance_weight
        self.epsilon = epsilon

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Deterministic; `generator` is not used."""
        n, d = embedding.shape
        centred = embedding - embedding.mean(dim=0)
        std = (centred.square().sum(dim=0) / (n - 1) + self.epsilon).sqrt()
        variance = (1.0 - std).relu().mean()
        covariance = centred.T @ centred / (n - 1)
        off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum()
        return variance + self.covariance_weight * off_diagonal / d
