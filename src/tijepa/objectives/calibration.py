"""Calibrated energy: how much better a prediction fits than what is typical.

For one direction x → y with prediction p = g(x): residuals r = y − p of training pairs are fitted
by a Gaussian N(μ_r, Σ_r), the targets by N(μ_y, Σ_y), and

    E(x, y) = −log N(y; p + μ_r, Σ_r) + log N(y; μ_y, Σ_y),

the negative pointwise mutual information under the model's own Gaussians, in nats. The energy of
a pair is the mean of both directions. It may be negative: below 0 the pair is likelier together
than by chance.

**As an inner product.** Let W'W = Σ_r⁻¹, V'V = Σ_y⁻¹ and o = ½ log|Σ_r| − ½ log|Σ_y|. With
u = W (p + μ_r − μ_y), v = W (y − μ_y) and the target's own term b = ½ ‖V (y − μ_y)‖²,

    E = ½ ‖u − v‖² − b + o.

In the mean of both directions, the predictions of an image (text) belong to the image (text) and
the targets too. Stacked and scaled by √½ the directions give one u and one v per item:

    E(i, t) = ½ ‖u_i − v_t‖² − ½ b_i − ½ b_t + ½ (o_T + o_I) = −u_i·v_t + a_i + c_t

with a_i = ½ ‖u_i‖² − ½ b_i + ½ o_T and c_t = ½ ‖v_t‖² − ½ b_t + ½ o_I. Hence the joint embeddings
[u ; −a ; 1] and [v ; 1 ; −c] have the inner product −E: an index of maximum inner products searches
by calibrated energy, exactly and in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.embeddings import Embeddings
from tijepa.objectives.match import MatchProbability

__all__ = ["SHRINKAGE", "Calibration", "DirectionCalibration", "JointEmbeddings", "fit_calibration"]

SHRINKAGE = 0.5  # where there are no held-out pairs to choose it by


class JointEmbeddings(NamedTuple):
    """Rows whose inner products are minus the calibrated energy; j = 2 d + 2."""

    image: Float[Tensor, "i j"]
    text: Float[Tensor, "t j"]


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
        u, v = self.of_prediction(predicted), self.of_target(target)
        square = u.square().sum(dim=1)[:, None] + v.square().sum(dim=1) - 2 * u @ v.T
        energy = square.clamp_min(0) / 2 - self.typical(target) + self.offset
        return energy.to(target.dtype)

    def of_prediction(self, predicted: Float[Tensor, "x d"]) -> Float[Tensor, "x d"]:
        """u = W (p + μ_r − μ_y), float64."""
        shift = self.residual_mean - self.target_mean
        return (predicted.double() + shift) @ self.residual_whiten.T

    def of_target(self, target: Float[Tensor, "y d"]) -> Float[Tensor, "y d"]:
        """v = W (y − μ_y), float64."""
        return (target.double() - self.target_mean) @ self.residual_whiten.T

    def typical(self, target: Float[Tensor, "y d"]) -> Float[Tensor, " y"]:
        """b = ½ ‖V (y − μ_y)‖², float64."""
        return ((target.double() - self.target_mean) @ self.target_whiten.T).square().sum(dim=1) / 2


@dataclass(frozen=True)
class Calibration:
    """One calibration per direction, the shrinkage both were fitted with, and P(match).

    `match` maps the energy of the model's default form to a probability; None where there were no
    held-out pairs to fit it on.
    """

    to_text: DirectionCalibration
    to_image: DirectionCalibration
    shrinkage: float
    match: MatchProbability | None = None

    def energy(self, e: Embeddings) -> Float[Tensor, "i t"]:
        """Calibrated energy of every image and text, in nats."""
        to_text = self.to_text.energy(e.text_from_image, e.text)
        to_image = self.to_image.energy(e.image_from_text, e.image).T
        return (to_text + to_image) / 2

    def joint(self, e: Embeddings) -> JointEmbeddings:
        """[u ; −a ; 1] and [v ; 1 ; −c] of the module's head: inner product −E(i, t)."""
        u = _stacked(
            self.to_image.of_target(e.image), self.to_text.of_prediction(e.text_from_image)
        )
        v = _stacked(self.to_image.of_prediction(e.image_from_text), self.to_text.of_target(e.text))
        a = u.square().sum(1) / 2 - self.to_image.typical(e.image) / 2 + self.to_text.offset / 2
        c = v.square().sum(1) / 2 - self.to_text.typical(e.text) / 2 + self.to_image.offset / 2
        image = torch.cat([u, -a[:, None], torch.ones_like(a)[:, None]], dim=1)
        text = torch.cat([v, torch.ones_like(c)[:, None], -c[:, None]], dim=1)
        return JointEmbeddings(image.to(e.image.dtype), text.to(e.text.dtype))

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors, for safetensors."""
        named = {"shrinkage": torch.tensor(self.shrinkage, dtype=torch.float64)}
        for direction in ("to_text", "to_image"):
            part = getattr(self, direction)
            for name in part.__dataclass_fields__:
                named[f"{direction}.{name}"] = getattr(part, name).contiguous()
        if self.match is not None:
            for name, value in self.match.state().items():
                named[f"match.{name}"] = value
        return named

    @classmethod
    def from_state(cls, named: dict[str, Tensor]) -> Calibration:
        """The inverse of `state`, in float32 too; `KeyError` where a tensor is missing."""

        def direction(prefix: str) -> DirectionCalibration:
            names = DirectionCalibration.__dataclass_fields__
            parts = {name: named[f"{prefix}.{name}"].double() for name in names}
            return DirectionCalibration(**parts)

        match = None
        if any(name.startswith("match.") for name in named):
            names = MatchProbability.__dataclass_fields__
            match = MatchProbability(**{name: float(named[f"match.{name}"]) for name in names})
        return cls(direction("to_text"), direction("to_image"), float(named["shrinkage"]), match)


def fit_calibration(pairs: Embeddings, shrinkage: float = SHRINKAGE) -> Calibration:
    """Fit both directions on aligned pairs (row k of the images belongs to row k of the texts).

    Every covariance is shrunk towards its mean variance: (1 − s) Σ + s · tr(Σ)/d · I. Without
    shrinkage (s = 0) more pairs than dimensions are needed. Fitted and kept on the CPU in float64.
    """
    assert pairs.image.shape == pairs.text.shape, (pairs.image.shape, pairs.text.shape)
    assert 0.0 <= shrinkage <= 1.0, shrinkage
    return Calibration(
        to_text=_fit(pairs.text_from_image, pairs.text, shrinkage),
        to_image=_fit(pairs.image_from_text, pairs.image, shrinkage),
        shrinkage=shrinkage,
    )


def _stacked(image: Tensor, text: Tensor) -> Tensor:
    """Both directions beside each other, each weighted by one half in squared distances."""
    return torch.cat([image, text], dim=1) * math.sqrt(0.5)


def _fit(predicted: Tensor, target: Tensor, shrinkage: float) -> DirectionCalibration:
    p, y = predicted.detach().cpu().double(), target.detach().cpu().double()
    residual, typical = _gaussian(y - p, shrinkage), _gaussian(y, shrinkage)
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
    """A tiny floor under the variances keeps a collapsed model finite."""
    mean = x.mean(dim=0)
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    eye = torch.eye(covariance.shape[0], dtype=x.dtype)
    floor = 1e-6 * x.square().mean() + 1e-12
    typical = covariance.diagonal().mean()
    covariance = (1 - shrinkage) * covariance + (shrinkage * typical + floor) * eye
    factor = torch.linalg.cholesky(covariance)
    whiten = torch.linalg.solve_triangular(factor, eye, upper=False).contiguous()
    return _Gaussian(mean, whiten, factor.diagonal().log().sum())
