"""Anti-collapse terms on the pooled embeddings of one modality.

Each is a function of the whole batch's statistics. Under gradient accumulation it is given the
whole batch (training/step.py); where several processes share the batch, `processes` sums
characteristic functions and moments over them, with gradient, so that value and gradient are those
of one process.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from tijepa.objectives.distributed import Distributed, SingleProcess, centre, covariance
from tijepa.registry import NonNegative, Positive, PositiveInt, Section, register

SINGLE_PROCESS = SingleProcess()
_WIDEST = 2.0  # variance along a direction that is still as it should be; 1 is the aim


@runtime_checkable
class Regularizer(Protocol):
    """A penalty on a batch of embeddings; `generator` feeds what is random in it."""

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Smallest at best; where it estimates from a sample, that may be a little below zero."""
        ...


class SIGRegConfig(Section):
    """What `sigreg` is set by."""

    slices: PositiveInt = 256  # random directions
    by_batch: bool = False  # times the batch size, as published; else as for a batch of 64
    variance: NonNegative = 1.0  # weight of variance beyond 2; 0 as published


class SIGReg:
    """Sketched isotropic Gaussian regularization (LeJEPA, arXiv 2511.08544, section 4).

    On each of `slices` random unit directions a, the Epps-Pulley statistic of the n projections
    x = aᵀz against N(0, 1):

        s ∫ |φ̂(t) − exp(−t²/2)|² exp(−t²/2) dt,   φ̂(t) = mean over the batch of exp(i t x),

    with s = `samples`, or s = n, the test statistic as published, where that is None. The energy is
    a mean over the batch; with s = n the share of the regularizer in an item's gradient would grow
    with the batch, and its weight would have to be tuned for each batch size (docs/log.md). It is
    integrated by the trapezoid rule on 17 knots over [0, 3] (the integrand is even, and 0 at t = 0,
    where both functions are 1), averaged over the directions. Nothing pulls fully collapsed
    embeddings apart: equal embeddings have equal gradients, which vanish at the origin.

    Far from the origin the statistic is blind: exp(i t x) of a large x turns fast, the pull on it
    changes sign from knot to knot, and few such rows hardly count. At high rates of learning
    embeddings escape there (docs/log.md). `variance` is the weight of a term, not in the paper,
    that sees them: the mean over directions of max(0, v − 2)², with v the unbiased sample variance
    of the projections. Where training goes well v is 1 ± 0.4, so that the term is next to nothing.
    """

    def __init__(
        self,
        slices: int = 256,
        knots: int = 17,
        reach: float = 3.0,
        samples: int | None = 64,
        variance: float = 1.0,
        processes: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.slices = slices
        self.samples = samples
        self.variance = variance
        self.processes = processes
        self.spacing = reach / (knots - 1)
        t = self.spacing * torch.arange(1, knots)
        self.gaussian = torch.exp(-t.square() / 2)
        trapezoid = torch.full((knots - 1,), 2 * self.spacing)
        trapezoid[-1] /= 2
        self.weight = trapezoid * self.gaussian

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """The mean statistic over fresh directions."""
        directions = _directions(embedding, self.slices, generator, self.processes)
        projections = embedding @ directions
        n = self.processes.total(embedding.new_full((), len(embedding)))
        sums = harmonic_sums(self.spacing * projections, len(self.weight))
        real, imaginary = self.processes.total(sums) / n
        error = (
            real - self.gaussian.to(real.device, non_blocking=True)[:, None]
        ).square() + imaginary.square()
        samples = n if self.samples is None else self.samples
        statistic: Tensor = (
            samples * (error.mean(dim=1) * self.weight.to(error.device, non_blocking=True)).sum()
        )
        if self.variance:
            statistic = statistic + self.variance * self._too_wide(projections)
        return statistic

    def _too_wide(self, projections: Float[Tensor, "b s"]) -> Float[Tensor, ""]:
        n, centred = centre(projections, self.processes)
        variance = self.processes.total(centred.square().sum(dim=0)) / (n - 1).clamp(min=1.0)
        return (variance - _WIDEST).relu().square().mean()


@register("regularizer", "sigreg", config=SIGRegConfig)
def sigreg(*, slices: int, by_batch: bool, variance: float, processes: Distributed) -> SIGReg:
    """`SIGReg` as the settings say it."""
    samples = None if by_batch else 64
    return SIGReg(slices, samples=samples, variance=variance, processes=processes)


@register("regularizer", "vicreg")
class VICReg:
    """Variance hinge and covariance (arXiv 2105.04906, equations 1 to 4).

    mean over dimensions of max(0, 1 − std), plus `covariance_weight` times the sum of squared
    off-diagonal covariances divided by d. The published ratio of variance to covariance is 25 : 1.
    """

    def __init__(
        self,
        covariance_weight: float = 0.04,
        epsilon: float = 1e-4,
        processes: Distributed = SINGLE_PROCESS,
    ) -> None:
        self.covariance_weight = covariance_weight
        self.epsilon = epsilon
        self.processes = processes

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Deterministic; `generator` is not used."""
        d = embedding.shape[1]
        c = covariance(embedding, self.processes)
        variance = (1.0 - (c.diagonal() + self.epsilon).sqrt()).relu().mean()
        off_diagonal = c.square().sum() - c.diagonal().square().sum()
        return variance + self.covariance_weight * off_diagonal / d


class WhiteningConfig(Section):
    """What `whitening` is set by."""

    epsilon: Positive = 1e-3  # added to every variance


@register("regularizer", "whitening", config=WhiteningConfig)
class Whitening:
    """(tr C − log det C − d) / d of the covariance C + ε of a batch of at least two: Stein's loss.

    Twice the divergence of N(0, C) from N(0, 1) for each dimension (James and Stein 1961): 0 for
    white embeddings alone, the aim of W-MSE (arXiv 2007.06346), which whitens the batch itself. A
    direction without variance costs log 1/ε, and the pull on it does not fade as it collapses: the
    gradient of −log σ² is 2/σ (log det against collapse: CorInfoMax, arXiv 2209.07999).
    """

    def __init__(self, *, epsilon: float, processes: Distributed) -> None:
        self.epsilon = epsilon
        self.processes = processes

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Deterministic; `generator` is not used."""
        d = embedding.shape[1]
        c = covariance(embedding, self.processes)
        c = c + self.epsilon * torch.eye(d, device=embedding.device)
        factor = torch.linalg.cholesky_ex(c).L  # positive definite, by ε
        log_det = 2 * factor.diagonal().log().sum()
        loss: Tensor = (c.diagonal().sum() - log_det - d) / d
        return loss


class VISRegConfig(Section):
    """What `visreg` is set by."""

    slices: PositiveInt = 256  # random directions


@register("regularizer", "visreg", config=VISRegConfig)
class VISReg:
    """Scale, shape and centre, each on its own (arXiv 2606.02572).

    With the mean μ and the standard deviation σ (n in the denominator) of each of d dimensions:

    - **scale**, mean of (σ − 1)². Its gradient with respect to a row is
      2 (σ − 1) (z − μ) / (n d σ): since (z − μ) / σ is of size 1 however small σ is, it does not
      fade as the embeddings collapse, where SIGReg's fades with them.
    - **shape**, the sliced Wasserstein distance of the standardised rows (z − μ) / σ to N(0, I): on
      each of `slices` random unit directions, mean over k of (x₍ₖ₎ − mₖ)², x₍ₖ₎ the k-th smallest
      projection and mₖ the mean of N(0, 1) between its (k−1)/n and k/n quantiles,
      mₖ = n (pdf(qₖ₋₁) − pdf(qₖ)). In one dimension sorting is the optimal transport, each point
      takes the n-th part of the Gaussian, and its mean cost is (x₍ₖ₎ − mₖ)² plus the part's own
      variance, which no embedding changes and which is left out. It sees what the moments of single
      dimensions do not: dimensions that repeat one another. Scaling and shifting the embeddings
      leaves it alone, so it never works against the other two.
    - **centre**, mean of μ².

    `floor` bounds σ from below in the division. Even rows that are all the same are pulled apart:
    sorting gives each another part of the Gaussian to go to.
    """

    def __init__(
        self, slices: int = 256, floor: float = 1e-4, processes: Distributed = SINGLE_PROCESS
    ) -> None:
        self.slices = slices
        self.floor = floor
        self.processes = processes

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """The sum of the three."""
        total = self.processes.total
        n = total(embedding.new_full((), len(embedding)))
        mean = total(embedding.sum(dim=0)) / n
        centred = embedding - mean
        variance = total(centred.square().sum(dim=0)) / n
        std = variance.clamp(min=self.floor**2).sqrt()
        directions = _directions(embedding, self.slices, generator, self.processes)
        shape = _wasserstein(self.processes.rows(centred / std) @ directions)
        return (std - 1).square().mean() + shape + mean.square().mean()


def _wasserstein(x: Float[Tensor, "n s"]) -> Float[Tensor, ""]:
    """Mean over columns of the squared distance to N(0, 1), but for its constant."""
    n = len(x)
    share = torch.arange(n + 1, dtype=torch.float64) / n
    edge = torch.special.ndtri(share)
    density = torch.exp(-edge.square() / 2) / (2 * torch.pi) ** 0.5
    part_mean = (n * (density[:-1] - density[1:])).to(x, non_blocking=True)
    distance: Tensor = (x.sort(dim=0).values - part_mean[:, None]).square().mean()
    return distance


def _directions(
    embedding: Tensor, slices: int, generator: torch.Generator, processes: Distributed
) -> Float[Tensor, "d s"]:
    """Random unit directions, those of process 0 in all processes."""
    directions = torch.randn(embedding.shape[1], slices, generator=generator)
    directions = directions.to(embedding.device, non_blocking=True)
    return processes.first(directions / directions.norm(dim=0))


# Sums of exp(i k θ) over a batch, for all multiples k at once, from one sine and cosine.
#
# exp(i k θ) is the k-th power of z = exp(i θ): the sums for k = 1 … K cost K − 1 complex products
# instead of K sines and cosines. Their gradient with respect to θ is a polynomial in z,
#
# ∂/∂θ Σ_k (a_k cos kθ + b_k sin kθ) = Re Σ_k c_k z^k,   c_k = k (b_k + i a_k),
#
# by Horner's rule, so that no power is kept for the backward pass. Since |z| = 1, the powers' error
# grows by one rounding a step and stays below 2e-6 in float32 for K = 16.


def harmonic_sums(theta: Float[Tensor, "n s"], highest: int) -> Float[Tensor, "2 k s"]:
    """Σ over rows of cos kθ and of sin kθ, for k = 1 … `highest`."""
    sums: Tensor = _HarmonicSums.apply(theta, highest)  # type: ignore[no-untyped-call]
    return sums


class _HarmonicSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, theta: Tensor, highest: int
    ) -> Float[Tensor, "2 k s"]:
        z = torch.polar(torch.ones_like(theta), theta)
        ctx.save_for_backward(z)
        power, sums = z, [z.sum(dim=0)]
        for _ in range(1, highest):
            power = power * z
            sums.append(power.sum(dim=0))
        stacked = torch.stack(sums)
        return torch.stack([stacked.real, stacked.imag])

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors  # type: ignore[attr-defined]
        cosine, sine = grads[0]
        k = torch.arange(1, len(cosine) + 1, device=z.device)[:, None]
        coefficient: Complex[Tensor, "k s"] = torch.complex(k * sine, k * cosine)
        out = coefficient[-1] * z
        for c in reversed(coefficient[:-1]):
            out = (out + c) * z
        return out.real, None
