"""Calibrated energy: how much better a prediction fits than what is typical.

For one direction x → y with prediction p = g(x), let μ_p, μ_y be the means over training pairs and
q = μ_y + M (p − μ_p) the prediction as calibrated. M is the identity, which only moves the mean,
or the ridge regression of targets on predictions, which corrects a predictor that has not
converged. Residuals r = y − q are fitted by a Gaussian N(0, Σ_r), the targets by N(μ_y, Σ_y), and

    E(x, y) = −log N(y; q, Σ_r) + log N(y; μ_y, Σ_y),

the negative pointwise mutual information under the model's own Gaussians, in nats. The energy of
a pair is the mean of both directions. It may be negative: below 0 the pair is likelier together
than by chance. With M regressed it is that of the Gaussian of predictions and targets together:
what canonical correlation analysis would find in them (Hotelling 1936; Bach and Jordan 2005).

**Who asks.** A text finds pictures by the direction that predicts texts, −log p(t|i) + log p(t): it
asks from which picture it most likely came. A picture finds texts by −log p(i|t) + log p(i). Were
the Gaussians true the two were one number; as they are not, the density of the query compares
candidates fairly, and the density of a candidate carries along how typical that one is.

**As an inner product.** Let W'W = Σ_r⁻¹, V'V = Σ_y⁻¹ and o = ½ log|Σ_r| − ½ log|Σ_y|. With
u = W M (p − μ_p), v = W (y − μ_y) and the target's own term b = ½ ‖V (y − μ_y)‖²,

    E(x, y) = ½ ‖u − v‖² − b + o = −[u ; −½ ‖u‖² ; 1]·[v ; 1 ; −c]   with c = ½ ‖v‖² − b + o.

The joint embedding of an item holds such a row for each direction, times √½: first that of the
texts given images (an image's u, a text's v), then that of the images given texts (an image's v, a
text's u). Whole rows have the inner product −E(i, t), the pair's; the first halves alone have half
of that by which texts find images, the second halves half of that by which images find texts. An
index of maximum inner products, or of the smallest ‖u − v‖, searches by them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.embeddings import Embeddings, SearchEnergies
from tijepa.objectives.match import MatchProbability

__all__ = [
    "SHRINKAGE",
    "Calibration",
    "DirectionCalibration",
    "JointEmbeddings",
    "PairMoments",
    "fit_calibration",
]

_TENSORS = (
    "predicted_mean",
    "predicted_whiten",
    "residual_whiten",
    "target_mean",
    "target_whiten",
    "offset",
)
SHRINKAGE = 0.5  # where there are no held-out pairs to choose it by


class JointEmbeddings(NamedTuple):
    """Rows whose inner products are minus the calibrated energy; j = 2 d + 4."""

    image: Float[Tensor, "i j"]
    text: Float[Tensor, "t j"]


@dataclass(frozen=True)
class DirectionCalibration:
    """Means, W M, the whitening W (Wᵀ W = Σ⁻¹) of both Gaussians, and ½ log|Σ_r| − ½ log|Σ_y|.

    `match` maps the energy of this direction to P(match).
    """

    predicted_mean: Float[Tensor, " d"]
    predicted_whiten: Float[Tensor, "d d"]
    residual_whiten: Float[Tensor, "d d"]
    target_mean: Float[Tensor, " d"]
    target_whiten: Float[Tensor, "d d"]
    offset: Float[Tensor, ""]
    match: MatchProbability | None = None

    def energy(
        self, predicted: Float[Tensor, "x d"], target: Float[Tensor, "y d"]
    ) -> Float[Tensor, "x y"]:
        """E for every prediction and target."""
        u, v = self.of_prediction(predicted), self.of_target(target)
        square = u.square().sum(dim=1)[:, None] + v.square().sum(dim=1) - 2 * u @ v.T
        energy = square.clamp_min(0) / 2 - self.typical(target) + self.offset
        return energy.to(target.dtype)

    def of_prediction(self, predicted: Float[Tensor, "x d"]) -> Float[Tensor, "x d"]:
        """u = W M (p − μ_p), float64."""
        return (predicted.double() - self.predicted_mean) @ self.predicted_whiten.T

    def of_target(self, target: Float[Tensor, "y d"]) -> Float[Tensor, "y d"]:
        """v = W (y − μ_y), float64."""
        return (target.double() - self.target_mean) @ self.residual_whiten.T

    def row_of_prediction(self, predicted: Float[Tensor, "x d"]) -> Float[Tensor, "x j"]:
        """[u ; −½ ‖u‖² ; 1], j = d + 2, float64."""
        u = self.of_prediction(predicted)
        return torch.cat([u, -u.square().sum(1, True) / 2, torch.ones_like(u[:, :1])], dim=1)

    def row_of_target(self, target: Float[Tensor, "y d"]) -> Float[Tensor, "y j"]:
        """[v ; 1 ; −½ ‖v‖² + b − o], j = d + 2, float64."""
        v = self.of_target(target)
        c = v.square().sum(dim=1) / 2 - self.typical(target) + self.offset
        return torch.cat([v, torch.ones_like(v[:, :1]), -c[:, None]], dim=1)

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        named = {name: getattr(self, name).contiguous() for name in _TENSORS}
        return named | ({} if self.match is None else _under("match", self.match.state()))

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> DirectionCalibration:
        """The inverse of `state`, of what stands under `prefix`."""
        tensors = {name: named[f"{prefix}.{name}"].double() for name in _TENSORS}
        return cls(**tensors, match=_match_in(named, f"{prefix}.match"))

    def typical(self, target: Float[Tensor, "y d"]) -> Float[Tensor, " y"]:
        """b = ½ ‖V (y − μ_y)‖², float64."""
        return ((target.double() - self.target_mean) @ self.target_whiten.T).square().sum(dim=1) / 2


@dataclass(frozen=True)
class Calibration:
    """One calibration per direction, what both were fitted with, and P(match).

    `ridge` is None where predictions are taken as they are. `match` maps the energy of the model's
    default form to a probability; None where there were no held-out pairs to fit it on. Those of
    the directions map the energies that are searched by.
    """

    to_text: DirectionCalibration
    to_image: DirectionCalibration
    shrinkage: float
    ridge: float | None = None
    match: MatchProbability | None = None

    def energy(self, e: Embeddings) -> Float[Tensor, "i t"]:
        """Calibrated energy of every image and text, in nats: the mean of both directions."""
        by = self.search_energies(e)
        return (by.images + by.texts) / 2

    def search_energies(self, e: Embeddings) -> SearchEnergies:
        """Images are found by E of the texts given images, texts by E of the images given texts."""
        return SearchEnergies(
            images=self.to_text.energy(e.text_from_image, e.text),
            texts=self.to_image.energy(e.image_from_text, e.image).T,
        )

    def joint(self, e: Embeddings) -> JointEmbeddings:
        """The rows of both directions side by side, times √½: inner product −E(i, t)."""
        image = [
            self.to_text.row_of_prediction(e.text_from_image),
            self.to_image.row_of_target(e.image),
        ]
        text = [
            self.to_text.row_of_target(e.text),
            self.to_image.row_of_prediction(e.image_from_text),
        ]
        half = math.sqrt(0.5)
        return JointEmbeddings(
            (half * torch.cat(image, dim=1)).to(e.image.dtype),
            (half * torch.cat(text, dim=1)).to(e.text.dtype),
        )

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors, for safetensors."""
        named = {"shrinkage": torch.tensor(self.shrinkage, dtype=torch.float64)}
        if self.ridge is not None:
            named["ridge"] = torch.tensor(self.ridge, dtype=torch.float64)
        named |= _under("to_text", self.to_text.state())
        named |= _under("to_image", self.to_image.state())
        return named | ({} if self.match is None else _under("match", self.match.state()))

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor]) -> Calibration:
        """The inverse of `state`, in float32 too; `KeyError` where a tensor is missing."""
        return cls(
            DirectionCalibration.from_state(named, "to_text"),
            DirectionCalibration.from_state(named, "to_image"),
            float(named["shrinkage"]),
            float(named["ridge"]) if "ridge" in named else None,
            _match_in(named, "match"),
        )


@dataclass(frozen=True)
class PairMoments:
    """Means and covariances of predictions and targets of both directions, float64 on the CPU."""

    to_text: DirectionMoments
    to_image: DirectionMoments

    @classmethod
    def of(cls, pairs: Embeddings) -> PairMoments:
        """Of aligned pairs: row k of the images belongs to row k of the texts."""
        assert pairs.image.shape == pairs.text.shape, (pairs.image.shape, pairs.text.shape)
        return cls(
            to_text=DirectionMoments.of(pairs.text_from_image, pairs.text),
            to_image=DirectionMoments.of(pairs.image_from_text, pairs.image),
        )

    def calibration(self, shrinkage: float, ridge: float | None) -> Calibration:
        """See `fit_calibration`."""
        assert 0.0 <= shrinkage <= 1.0, shrinkage
        return Calibration(
            to_text=self.to_text.calibration(shrinkage, ridge),
            to_image=self.to_image.calibration(shrinkage, ridge),
            shrinkage=shrinkage,
            ridge=ridge,
        )


@dataclass(frozen=True)
class DirectionMoments:
    """Means of predictions p and targets y, and their covariances; `cross` is Cov(p, y)."""

    predicted_mean: Float[Tensor, " d"]
    target_mean: Float[Tensor, " d"]
    predicted: Float[Tensor, "d d"]
    cross: Float[Tensor, "d d"]
    target: Float[Tensor, "d d"]

    @classmethod
    def of(cls, predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> DirectionMoments:
        """Of n pairs."""
        p, y = predicted.detach().cpu().double(), target.detach().cpu().double()
        p_mean, y_mean, count = p.mean(dim=0), y.mean(dim=0), len(p)
        p, y = p - p_mean, y - y_mean
        return cls(p_mean, y_mean, p.T @ p / count, p.T @ y / count, y.T @ y / count)

    def calibration(self, shrinkage: float, ridge: float | None) -> DirectionCalibration:
        """Σ_r = Σ_y − M Σ_py − (M Σ_py)ᵀ + M Σ_p Mᵀ with Mᵀ = Σ_p(ridge)⁻¹ Σ_py, or M = I."""
        if ridge is None:
            transposed = torch.eye(len(self.predicted), dtype=self.predicted.dtype)
        else:
            transposed = torch.linalg.solve(_shrunk(self.predicted, ridge), self.cross)
        explained = transposed.T @ self.cross
        residual = (
            self.target - explained - explained.T + transposed.T @ self.predicted @ transposed
        )
        # a difference: below this share of the target's variance it is rounding
        residual = residual + 1e-10 * self.target.diagonal().mean() * torch.eye(len(residual))
        factor = torch.linalg.cholesky(_shrunk(residual, shrinkage))
        typical = torch.linalg.cholesky(_shrunk(self.target, shrinkage))
        whiten = _inverse(factor)
        return DirectionCalibration(
            predicted_mean=self.predicted_mean,
            predicted_whiten=whiten @ transposed.T,
            residual_whiten=whiten,
            target_mean=self.target_mean,
            target_whiten=_inverse(typical),
            offset=factor.diagonal().log().sum() - typical.diagonal().log().sum(),
        )


def fit_calibration(
    pairs: Embeddings, shrinkage: float = SHRINKAGE, ridge: float | None = None
) -> Calibration:
    """Fit both directions on aligned pairs (row k of the images belongs to row k of the texts).

    Every covariance is shrunk towards its mean variance: (1 − s) Σ + s · tr(Σ)/d · I, that of the
    predictions by `ridge` where M is to be regressed. Without shrinkage (s = 0) more pairs than
    dimensions are needed. Fitted and kept on the CPU in float64.
    """
    return PairMoments.of(pairs).calibration(shrinkage, ridge)


def _under(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in named.items()}


def _match_in(named: Mapping[str, Tensor], prefix: str) -> MatchProbability | None:
    if not any(name.startswith(f"{prefix}.") for name in named):
        return None
    names = MatchProbability.__dataclass_fields__
    return MatchProbability(**{name: float(named[f"{prefix}.{name}"]) for name in names})


def _shrunk(covariance: Tensor, share: float) -> Tensor:
    """A tiny floor under the variances keeps a collapsed model finite."""
    typical = covariance.diagonal().mean()
    ridge = share * typical + 1e-6 * typical + 1e-12
    return (1 - share) * covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)


def _inverse(factor: Tensor) -> Tensor:
    eye = torch.eye(len(factor), dtype=factor.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
    return inverse.contiguous()
