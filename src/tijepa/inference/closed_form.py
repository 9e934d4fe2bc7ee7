"""The closed form: regression both ways between frozen encoders, and its calibrated energy.

Everything comes from the second moments of pooled tokens: no gradient, one pass over the pairs, and
O(d²) numbers whatever the number of pairs. The energy is the direct expert of the calibrated one
(`inference/calibration.py`). The model that carries it has linear parts alone: its heads are the
canonical directions of both modalities (Hotelling 1936), its predictors the regression between
them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tijepa.data.features import SplitFeatures
from tijepa.errors import ConfigError
from tijepa.inference.calibration import Calibration
from tijepa.inference.calibration_selection import LOST, best_direct
from tijepa.inference.compression import ROW_NUMBERS
from tijepa.inference.embeddings import Embedded
from tijepa.inference.moments import DirectionMoments, Moments, shrunk
from tijepa.model.mlp import MLP
from tijepa.model.text_image_model import TextImageModel

# chosen among where held-out pairs can be asked: the ridge first, by the middle shrinkage
RIDGES = (0.03, 0.1, 0.2, 0.4)
SHRINKAGES = (0.1, 0.2, 0.35, 0.65)
UNCHOSEN = (0.35, 0.2)  # shrinkage and ridge where there are none


def moments_of(features: SplitFeatures) -> Moments:
    """The moments of all pairs of a split whose pooled tokens are cached, in one pass."""
    found: Moments | None = None
    for images, texts, captions in features.pairs():
        found = found or Moments(images.shape[1], texts.shape[1])
        found.add(images, texts, captions)
    assert found is not None, "the split has no items"
    return found


def fit_closed_form(moments: Moments, held_out: tuple[Embedded, Embedded] | None) -> Calibration:
    """The energy of a regression both ways, its ridge and shrinkage chosen on `held_out` pairs.

    Those are images and texts, row by row, by their pooled tokens as their own predictions. It
    keeps no more directions than a row of an index has numbers for.
    """
    pairs = moments.directions()
    if held_out is None:
        found = pairs.calibrated(*UNCHOSEN)
    else:
        middle = UNCHOSEN[0]
        found = best_direct(pairs, [(middle, ridge) for ridge in RIDGES], held_out)
        rest = [(shrinkage, found.ridge) for shrinkage in SHRINKAGES]
        found = best_direct(pairs, rest, held_out)
    return Calibration(None, pairs.shortened(found, LOST, ROW_NUMBERS // 2 - 2))


def solve(model: TextImageModel, moments: Moments, found: Calibration) -> None:
    """Set linear heads to canonical directions, and linear predictors to the regression of those.

    The ridge is that which `found` was fitted with. With shrunk covariances Lx Lxᵀ = S_x and
    Ly Lyᵀ = S_y, and the singular value decomposition Lx⁻¹ S_xy Ly⁻ᵀ = U diag(ρ) Vᵀ, a head is
    z_I = √ρ Uᵀ Lx⁻¹ (x − x̄), and z_T likewise; the ridge regression of one on the other is z ↦ ρ z.
    The scale √ρ lets a dimension count by what it says of the other modality, also where
    embeddings are compared without calibration.

    Raises `ConfigError` where the shared dimension exceeds that of one modality.
    """
    assert found.direct is not None
    assert found.direct.ridge is not None
    pair, ridge = moments.directions().to_text, found.direct.ridge
    image, text = model.context.image_head, model.context.text_head
    assert model.predictors is not None
    dimension, most = _linear(image).out_features, min(pair.cross.shape)
    if dimension > most:
        raise ConfigError(
            f"model.embed_dim is {dimension}, and there are at most {most} directions that images"
            " and texts share: lower it"
        )
    of_image, of_text = _factor(pair, ridge), _factor(pair.reversed(), ridge)
    whitened = torch.linalg.solve_triangular(of_image, pair.cross, upper=False)
    whitened = torch.linalg.solve_triangular(of_text, whitened.T, upper=False).T
    left, correlation, right = torch.linalg.svd(whitened, full_matrices=False)
    correlation = correlation[:dimension].clamp(0.0, 1.0)
    for head, factor, axes, mean in (
        (image, of_image, left, pair.predicted_mean),
        (text, of_text, right.T, pair.target_mean),
    ):
        turned = torch.linalg.solve_triangular(factor.T, axes[:, :dimension], upper=True)
        weight = (turned * correlation.sqrt()).T
        _set(_linear(head), weight, -weight @ mean)
    for predictor in (model.predictors.image_to_text, model.predictors.text_to_image):
        _set(_linear(predictor), correlation.diag(), torch.zeros(dimension))


def _factor(pair: DirectionMoments, ridge: float) -> Tensor:
    covariance = shrunk(pair.predicted, ridge, pair.scales(pair.predicted))
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor


def _linear(part: nn.Module) -> nn.Linear:
    """The one map of a part without hidden layers."""
    assert isinstance(part, MLP)
    (only,) = part.layers
    assert isinstance(only, nn.Linear)
    return only


def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
