"""Collapse in numbers: how many directions embeddings use, whether predictions tell pairs apart.

A falling loss says nothing about collapse (a constant is the easiest thing to predict), so these
readings come from embeddings alone; `detect` judges them. All are free of scale, except `std`,
which is only ever compared with its own past.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.pairs import Batch
from tijepa.errors import DataError
from tijepa.inference.embeddings import Embeddings
from tijepa.inference.results import ModalityReadings
from tijepa.model.text_image_model import Encoders, TextImageModel
from tijepa.objectives.base import TASKS
from tijepa.objectives.forward import encode_modality

ROUNDING = 1e-6  # of the whole matrix; smaller singular values are float32 rounding, thus zero
CERTAIN = 1000.0  # standard errors; more are not told apart
CollapseMetrics = dict[str, dict[str, float]]


class Learned(NamedTuple):
    """What an objective trains of the pooled embeddings, and so can be held against it."""

    modalities: tuple[str, ...]
    directions: tuple[str, ...]  # in which one modality predicts the other


EVERYTHING = Learned(("image", "text"), ("image_to_text", "text_to_image"))
MODALITIES, DIRECTIONS = EVERYTHING


def watched(energies: Iterable[str]) -> Learned:
    """Modalities and directions that an objective with these energies (`TASK/LEVEL`) trains.

    An objective without energies (CLIP, SigLIP) compares both modalities both ways. Fused tasks
    train no embedding of one modality: `fused_metrics` watches what they train.
    """
    names = [name.partition("/") for name in energies]
    if not names:
        return EVERYTHING
    tasks = [TASKS[task] for task, _, _ in names if not TASKS[task].fused]
    used = {"image": any(t.needs_image for t in tasks), "text": any(t.needs_text for t in tasks)}
    pooled = {task for task, _, level in names if level == "pooled"}
    return Learned(
        modalities=tuple(m for m in MODALITIES if used[m]),
        directions=tuple(d for d in DIRECTIONS if d in pooled),
    )


def per_dimension_std(x: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Standard deviation over the n items (n − 1 in the denominator) of each dimension."""
    _enough(x)
    return x.double().std(dim=0)


def effective_rank(x: Float[Tensor, "n d"]) -> float:
    """exp(−Σ p log p) with p = σ / Σσ of the centred matrix (RankMe, arXiv 2210.02885).

    Between 1 (all items on a line) and min(n − 1, d) (all directions alike); 0 where all items are
    the same up to rounding, because then there is no direction at all. RankMe does not centre;
    we do, since a large common mean would hide collapse behind one big singular value or pass for
    a used direction. Not a number where an embedding is not finite.
    """
    _enough(x)
    if not bool(torch.isfinite(x).all()):
        return math.nan
    values = x.detach().cpu().double()
    singular = torch.linalg.svdvals(values - values.mean(dim=0))
    singular = singular[singular > ROUNDING * torch.linalg.matrix_norm(values)]
    if singular.numel() == 0:
        return 0.0
    p = singular / singular.sum()
    return math.exp(-float((p * p.log()).sum()))


def modality_readings(x: Float[Tensor, "n d"]) -> ModalityReadings:
    """Rank and standard deviations of one modality's pooled embeddings, for the record."""
    std = per_dimension_std(x)
    return ModalityReadings(effective_rank(x), x.shape[1], float(std.mean()), float(std.min()))


def _enough(x: Tensor) -> None:
    if x.shape[0] < 2:
        raise DataError(f"collapse readings from {x.shape[0]} items: give at least 2")


@torch.no_grad()
def target_embeddings(model: TextImageModel, batch: Batch) -> dict[str, Float[Tensor, "b d"]]:
    """Pooled embeddings of a batch by the target encoders; none where no target is an EMA."""
    if model.target is None:
        return {}
    model.eval()
    image = encode_modality(model.target, "image", *batch.inputs("image")).pooled
    text = encode_modality(model.target, "text", *batch.inputs("text")).pooled
    return {
        "image": model.target.embed_image(image).cpu(),
        "text": model.target.embed_text(text).cpu(),
    }


@torch.no_grad()
def fused_metrics(model: TextImageModel, batch: Batch) -> CollapseMetrics:
    """Readings of the pooled fused tokens of a batch of pairs, as of the embeddings of a modality.

    The subjects are `fused` and `fused targets`; none for a model without fusion. Frozen encoders
    do not keep them apart: a fusion that gives the same for every pair is the trivial solution.
    """
    model.eval()
    found: CollapseMetrics = {}
    if model.context.fusion is not None and model.target is not None:
        own, target = (_fused(encoders, batch) for encoders in (model.context, model.target))
        found["fused"] = _modality(own)
        found["fused targets"] = _modality(target) | {"drift": _drift(own, target)}
    return found


def _fused(encoders: Encoders, batch: Batch) -> Float[Tensor, "b d"]:
    assert encoders.fusion is not None
    fused = encoders.fusion(
        encode_modality(encoders, "image", *batch.inputs("image")),
        encode_modality(encoders, "text", *batch.inputs("text")),
    )
    pooled: Tensor = fused.pooled.cpu()
    return pooled


def collapse_metrics(
    pairs: Embeddings,
    targets: dict[str, Float[Tensor, "b d"]],
    *,
    own: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]] | None = None,
    modalities: Iterable[str] = MODALITIES,
    directions: Iterable[str] = DIRECTIONS,
) -> CollapseMetrics:
    """Readings of n pairs by subject; `targets` are target embeddings of the first b of them.

    `own` are the images' and texts' embeddings before `objective.pooled_target_norm`, as `targets`
    are: what a modality and its targets are judged by. Without it there is no such norm.

    - A modality, and its targets under the name `image targets`: `rank` (effective rank),
      `available` (directions that n items in d dimensions can have), `spread` (√d · mean std, as a
      share of the mean length) and `std`. Constant embeddings have rank and spread 0.
    - Targets further have `drift` = E‖c − t‖² / (Var c + Var t) between context and target
      embeddings of the same items: 0 where they are the same, 1 for unrelated ones of equal mean.
    - A direction has `gap`, shuffled minus matched energy over the marginal energy, which is that
      of the best constant prediction, the variance of its target: (E‖g − z'‖² − E‖g − z‖²) / Var z
      = 2 tr cov(g, z) / Var z, over all wrong partners at once. A constant or unrelated prediction
      has 0, one that explains a share ρ of the variance 2ρ. `certainty` is the gap in standard
      errors.
    """
    predicted = {"image_to_text": pairs.text_from_image, "text_to_image": pairs.image_from_text}
    image, text = own or (pairs.image, pairs.text)
    plain = {"image": image, "text": text}
    found: CollapseMetrics = {name: _modality(plain[name]) for name in modalities}
    for name in modalities:
        if name in targets:
            context = plain[name][: len(targets[name])]
            drift = {"drift": _drift(context, targets[name])}
            found[f"{name} targets"] = _modality(targets[name]) | drift
    for name in directions:
        target = pairs.text if name == "image_to_text" else pairs.image
        found[name] = _direction(predicted[name], target)
    return found


def _modality(x: Tensor) -> dict[str, float]:
    std = float(per_dimension_std(x).mean())
    length = float(x.double().norm(dim=1).mean())
    return {
        "rank": effective_rank(x),
        "available": float(min(x.shape[1], len(x) - 1)),
        "spread": math.sqrt(x.shape[1]) * std / length if length else 0.0,
        "std": std,
    }


def _drift(context: Tensor, target: Tensor) -> float:
    context, target = context.double(), target.double()
    apart = float((context - target).square().sum(dim=1).mean())
    scale = _variance(context) + _variance(target)
    if scale == 0:
        return 0.0 if apart == 0 else 1.0
    return apart / scale


def _direction(predicted: Tensor, target: Tensor) -> dict[str, float]:
    predicted, target = predicted.double(), target.double()
    n, marginal = len(target), _variance(target)
    centred = (predicted - predicted.mean(dim=0)) * (target - target.mean(dim=0))
    share = 2 * centred.sum(dim=1) * n / (n - 1)  # each pair's against all others, averaged
    gap, error = float(share.mean()), float(share.std()) / math.sqrt(n)
    if not (math.isfinite(gap) and math.isfinite(error)):
        return {"gap": math.nan, "certainty": math.nan}
    if gap <= 0 or marginal == 0:
        return {"gap": gap / marginal if marginal else 0.0, "certainty": 0.0}
    return {"gap": gap / marginal, "certainty": min(gap / error, CERTAIN) if error else CERTAIN}


def _variance(x: Tensor) -> float:
    """Mean squared distance from the mean."""
    return float((x - x.mean(dim=0)).square().sum(dim=1).mean())
