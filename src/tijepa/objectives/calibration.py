"""Calibrated energy: how much better a prediction fits than what is typical.

For one direction x → y with prediction p = g(x): residuals r = y − p of training pairs are fitted
by a Gaussian N(μ_r, Σ_r), the targets by N(μ_y, Σ_y), and

    E(x, y) = −log N(y; p + μ_r, Σ_r) + log N(y; μ_y, Σ_y),

the negative pointwise mutual information under the model's own Gaussians, in nats. The energy of
a pair is the mean of both directions. It may be negative: below 0 the pair is likelier together
than by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.embeddings import Embeddings

__all__ = ["Calibration", "DirectionCalibration", "fit_calibration"]


@dataclass(frozen=True)
class DirectionCalibration:
    """Means and whitening W (Wᵀ W = Σ⁻¹) of both Gaussians, and ½ log|Σ_r| − ½ log|Σ_y|."""

    residual_mean: Float[Tensor, " d"]
    residual_whiten: Float[Tensor, "d d"]
    target_mean: Float[Tensor, " d"]
    target_whiten: Float[Tensor, "d d"]
    offset: Float[Tensor, ""]

    def energy(
        self, predicted: Float[Tensor, "x d"], target: Float[Tensor, "y d"]
    ) -> Float[Tensor, "x y"]:
        """E for every prediction and target."""
        a = predicted @ self.residual_whiten.T
        b = (target - self.residual_mean) @ self.residual_whiten.T
        predictive = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        typical = ((target - self.target_mean) @ self.target_whiten.T).square().sum(dim=1) / 2
        return predictive - typical + self.offset


@dataclass(frozen=True)
class Calibration:
    """One calibration per direction, and the shrinkage both were fitted with."""

    to_text: DirectionCalibration
    to_image: DirectionCalibration
    shrinkage: float

    def energy(self, e: Embeddings) -> Float[Tensor, "i t"]:
        """Calibrated energy of every image and text, in nats."""
        to_text = self.to_text.energy(e.text_from_image, e.text)
        to_image = self.to_image.energy(e.image_from_text, e.image).T
        return (to_text + to_image) / 2

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors, for safetensors."""
        named = {"shrinkage": torch.tensor(self.shrinkage, dtype=torch.float64)}
        for direction in ("to_text", "to_image"):
            part = getattr(self, direction)
            for name in part.__dataclass_fields__:
                named[f"{direction}.{name}"] = getattr(part, name).contiguous()
        return named

    @classmethod
    def from_state(cls, named: dict[str, Tensor]) -> Calibration:
        """The inverse of `state`."""

        def direction(prefix: str) -> DirectionCalibration:
            names = DirectionCalibration.__dataclass_fields__
            return DirectionCalibration(**{name: named[f"{prefix}.{name}"] for name in names})

        return cls(direction("to_text"), direction("to_image"), float(named["shrinkage"]))


def fit_calibration(pairs: Embeddings, shrinkage: float = 0.5) -> Calibration:
    """Fit both directions on aligned pairs (row k of the images belongs to row k of the texts).

    Every covariance is shrunk towards its mean variance: (1 − s) Σ + s · tr(Σ)/d · I. Without
    shrinkage (s = 0) more pairs than dimensions are needed.
    """
    assert pairs.image.shape == pairs.text.shape, (pairs.image.shape, pairs.text.shape)
    assert 0.0 <= shrinkage <= 1.0, shrinkage
    return Calibration(
        to_text=_fit(pairs.text_from_image, pairs.text, shrinkage),
        to_image=_fit(pairs.image_from_text, pairs.image, shrinkage),
        shrinkage=shrinkage,
    )


def _fit(predicted: Tensor, target: Tensor, shrinkage: float) -> DirectionCalibration:
    residual, typical = _gaussian(target - predicted, shrinkage), _gaussian(target, shrinkage)
    return DirectionCalibration(
        residual_mean=residual.mean,
        residual_whiten=residual.whiten,
        target_mean=typical.mean,
        target_whiten=typical.whiten,
        offset=residual.half_logdet - typical.half_logdet,
    )


@dataclass(frozen=True)
class _Gaussian:
    mean: Tensor
    whiten: Tensor
    half_logdet: Tensor


def _gaussian(x: Tensor, shrinkage: float) -> _Gaussian:
    """Fit in float64; a tiny floor under the variances keeps a collapsed model finite."""
    wide = x.double()
    mean = wide.mean(dim=0)
    centred = wide - mean
    covariance = centred.T @ centred / len(wide)
    eye = torch.eye(covariance.shape[0], dtype=wide.dtype, device=wide.device)
    floor = 1e-6 * wide.square().mean() + 1e-12
    typical = covariance.diagonal().mean()
    covariance = (1 - shrinkage) * covariance + (shrinkage * typical + floor) * eye
    factor = torch.linalg.cholesky(covariance)
    whiten = torch.linalg.solve_triangular(factor, eye, upper=False).contiguous()
    half_logdet = factor.diagonal().log().sum()
    return _Gaussian(mean.to(x.dtype), whiten.to(x.dtype), half_logdet.to(x.dtype))
