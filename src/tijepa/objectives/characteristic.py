"""Sums of exp(i k θ) over a batch, for all multiples k at once, from one sine and cosine.

exp(i k θ) is the k-th power of z = exp(i θ), so the sums for k = 1 … K cost K − 1 complex products
instead of K sines and cosines. Their gradient with respect to θ is a polynomial in z,

    ∂/∂θ Σ_k (a_k cos kθ + b_k sin kθ) = Re Σ_k c_k z^k,   c_k = k (b_k + i a_k),

by Horner's rule, so that no power is kept for the backward pass. Since |z| = 1, the powers' error
grows by one rounding a step and stays below 2e-6 in float32 for K = 16.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = ["harmonic_sums"]


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
