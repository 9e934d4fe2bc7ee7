"""Means and second moments of pairs, and the calibrations that are fitted on them.

A calibration sees nothing of its pairs but these: O(d²) numbers, whatever the number of pairs. They
are taken in a batch at a time, those of parts of the pairs are merged, and a part can be taken out
again (Chan, Golub and LeVeque 1983), so one pass over the data is enough, also when several
processes share it or folds are held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.inference.calibration import Calibration, DirectionCalibration, Directions
from tijepa.inference.embeddings import Embeddings

SHRINKAGE = 0.5  # where there are no held-out pairs to choose it by


class Moments:
    """Count, mean and scatter of pairs (x, y), float64 on the CPU: (p + q)² numbers.

    The scatter is Σ (z − z̄)(z − z̄)ᵀ of z = [x ; y]. Any split of the pairs, in any order, gives the
    same up to rounding.
    """

    def __init__(self, p: int, q: int) -> None:
        self.count, self._p = 0, p
        self.mean = torch.zeros(p + q, dtype=torch.float64)
        self.scatter = torch.zeros(p + q, p + q, dtype=torch.float64)

    @property
    def widths(self) -> tuple[int, int]:
        """p and q."""
        return self._p, len(self.mean) - self._p

    def add(
        self,
        x: Float[Tensor, "n p"],
        y: Float[Tensor, "t q"],
        repeats: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Take in pairs: row k of `x` with row k of `y`, or with the next `repeats[k]` of them."""
        if not len(y):
            return
        x, y = x.detach().cpu().double(), y.detach().cpu().double()
        repeats = torch.ones(len(x), dtype=torch.long) if repeats is None else repeats
        weight = repeats.double()
        mean = torch.cat([weight @ x / len(y), y.mean(dim=0)])
        x, y = x - mean[: self._p], y - mean[self._p :]
        owner = torch.arange(len(x)).repeat_interleave(repeats)
        sums = torch.zeros(len(x), y.shape[1], dtype=y.dtype).index_add_(0, owner, y)
        of_x, across, of_y = (x * weight[:, None]).T @ x, x.T @ sums, y.T @ y
        rows = torch.cat([of_x, across], dim=1), torch.cat([across.T, of_y], dim=1)
        self._take(len(y), mean, torch.cat(rows))

    def merge(self, other: Moments) -> None:
        """Take in the pairs of `other`."""
        if other.count:
            self._take(other.count, other.mean, other.scatter)

    def without(self, part: Moments) -> Moments:
        """Those of the other pairs, where those of `part` were taken in and are not all."""
        assert part.count < self.count, (part.count, self.count)
        rest = Moments(*self.widths)
        rest.count = self.count - part.count
        rest.mean = self.mean + (self.mean - part.mean) * (part.count / rest.count)
        apart = part.mean - rest.mean
        weight = rest.count * part.count / self.count
        rest.scatter = self.scatter - part.scatter - weight * torch.outer(apart, apart)
        return rest

    def directions(self) -> PairMoments:
        """Of predicting y, a text's, by x, an image's, and the other way round."""
        (x, y), covariance = self.mean.tensor_split([self._p]), self.scatter / self.count
        image, text = slice(0, self._p), slice(self._p, None)
        blocks = covariance[image, image], covariance[image, text], covariance[text, text]
        to_text = DirectionMoments(x, y, *blocks, by_scale=True)
        return PairMoments(to_text, to_text.reversed())

    def _take(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total, apart = self.count + count, mean - self.mean
        weight = self.count * count / total
        self.scatter = self.scatter + scatter + weight * torch.outer(apart, apart)
        self.mean = self.mean + apart * (count / total)
        self.count = total


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

    @classmethod
    def of_pooled(cls, pairs: Embeddings) -> PairMoments:
        """Of aligned pairs' pooled tokens, each the prediction of the other."""
        image, text = pairs.of_images.direct.embedding, pairs.of_texts.direct.embedding
        assert len(image) == len(text), (image.shape, text.shape)
        to_text = replace(DirectionMoments.of(image, text), by_scale=True)
        return cls(to_text=to_text, to_image=to_text.reversed())

    def calibrated(self, shrinkage: float, ridge: float | None) -> Directions:
        """See `fit_calibration`."""
        assert 0.0 <= shrinkage <= 1.0, shrinkage
        to_text = self.to_text.calibration(shrinkage, ridge)
        return Directions(to_text, self.to_image.calibration(shrinkage, ridge), shrinkage, ridge)

    def shortened(self, found: Directions, lost: float, most: int | None = None) -> Directions:
        """The same with as few rows of W M, as many in both directions, as keep all but a share
        `lost` of the variance of u, or with the `most` important ones."""
        turned = [self.to_text.turned(found.to_text), self.to_image.turned(found.to_image)]
        needed = [int((one.cumsum(0) < (1 - lost) * one.sum()).sum()) + 1 for _, one in turned]
        rank = min(most or max(needed), max(needed), *(len(one) for _, one in turned))
        to_text, to_image = (
            replace(direction, predicted_whiten=direction.predicted_whiten[:rank])
            for direction, _ in turned
        )
        return found._replace(to_text=to_text, to_image=to_image)


@dataclass(frozen=True)
class DirectionMoments:
    """Means of predictions p and targets y, and their covariances; `cross` is Cov(p, y).

    Covariances are shrunk towards equal variances, or with `by_scale` towards such that are equal
    in units of the dimensions' own: then the units of p and y do not matter.
    """

    predicted_mean: Float[Tensor, " p"]
    target_mean: Float[Tensor, " q"]
    predicted: Float[Tensor, "p p"]
    cross: Float[Tensor, "p q"]
    target: Float[Tensor, "q q"]
    by_scale: bool = False

    @classmethod
    def of(cls, predicted: Float[Tensor, "n p"], target: Float[Tensor, "n q"]) -> DirectionMoments:
        """Of n pairs."""
        p, y = predicted.detach().cpu().double(), target.detach().cpu().double()
        p_mean, y_mean, count = p.mean(dim=0), y.mean(dim=0), len(p)
        p, y = p - p_mean, y - y_mean
        return cls(p_mean, y_mean, p.T @ p / count, p.T @ y / count, y.T @ y / count)

    def reversed(self) -> DirectionMoments:
        """Those of predicting p by y."""
        means = self.target_mean, self.predicted_mean
        return DirectionMoments(*means, self.target, self.cross.T, self.predicted, self.by_scale)

    def calibration(self, shrinkage: float, ridge: float | None) -> DirectionCalibration:
        """Σ_r = Σ_y − M Σ_py − (M Σ_py)ᵀ + M Σ_p Mᵀ with Mᵀ = Σ_p(ridge)⁻¹ Σ_py, or M = I."""
        of_p, of_y = self.scales(self.predicted), self.scales(self.target)
        if ridge is None:
            transposed = torch.eye(len(self.predicted), dtype=self.predicted.dtype)
        else:
            transposed = torch.linalg.solve(shrunk(self.predicted, ridge, of_p), self.cross)
        explained = transposed.T @ self.cross
        residual = (
            self.target - explained - explained.T + transposed.T @ self.predicted @ transposed
        )
        # a difference: below this share of the target's variance it is rounding
        residual = residual + 1e-10 * _typical(self.target, of_y) * of_y.diag()
        factor = torch.linalg.cholesky(shrunk(residual, shrinkage, of_y))
        typical = torch.linalg.cholesky(shrunk(self.target, shrinkage, of_y))
        whiten = _inverse(factor)
        return DirectionCalibration(
            predicted_mean=self.predicted_mean,
            predicted_whiten=whiten @ transposed.T,
            residual_whiten=whiten,
            target_mean=self.target_mean,
            target_whiten=_inverse(typical),
            offset=factor.diagonal().log().sum() - typical.diagonal().log().sum(),
        )

    def scales(self, covariance: Float[Tensor, "d d"]) -> Float[Tensor, " d"]:
        """Variances of equal weight in the shrinkage."""
        own = covariance.diagonal()
        return (
            own.clamp_min(1e-9 * float(own.mean()) + 1e-12)
            if self.by_scale
            else own.new_ones(len(own))
        )

    def turned(
        self, found: DirectionCalibration
    ) -> tuple[DirectionCalibration, Float[Tensor, " q"]]:
        """The same energy, the directions of most variance of u first, and these variances."""
        of_u = found.predicted_whiten @ self.predicted @ found.predicted_whiten.T
        variances, axes = torch.linalg.eigh(of_u)
        turn = axes.flip(1).T
        return replace(
            found,
            predicted_whiten=turn @ found.predicted_whiten,
            residual_whiten=turn @ found.residual_whiten,
        ), variances.flip(0).clamp_min(0)


def fit_calibration(
    pairs: Embeddings, shrinkage: float = SHRINKAGE, ridge: float | None = None
) -> Calibration:
    """Fit the heads' expert on aligned pairs (row k of the images belongs to row k of the texts).

    Every covariance is shrunk towards its mean variance: (1 − s) Σ + s · tr(Σ)/d · I, that of the
    predictions by `ridge` where M is to be regressed. Without shrinkage (s = 0) more pairs than
    dimensions are needed. Fitted and kept on the CPU in float64.
    """
    return Calibration(PairMoments.of(pairs).calibrated(shrinkage, ridge))


def shrunk(covariance: Tensor, share: float, scales: Tensor) -> Tensor:
    """A tiny floor under the variances keeps a collapsed model finite."""
    typical = _typical(covariance, scales)
    return (1 - share) * covariance + (share * typical + 1e-6 * typical + 1e-12) * scales.diag()


def _typical(covariance: Tensor, scales: Tensor) -> Tensor:
    """The mean variance in units of `scales`."""
    return (covariance.diagonal() / scales).mean()


def _inverse(factor: Tensor) -> Tensor:
    eye = torch.eye(len(factor), dtype=factor.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
    return inverse.contiguous()
