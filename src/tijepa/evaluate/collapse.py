"""Collapse, measured: how many directions the embeddings use, and whether pairs matter.

A falling loss says nothing about collapse (a constant is the easiest thing to predict), so these
readings come from embeddings and energies alone.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.errors import DataError
from tijepa.inference.results import Collapse, ModalityReadings

__all__ = [
    "EVERYTHING",
    "Learned",
    "collapse_readings",
    "effective_rank",
    "per_dimension_std",
    "rank_bound",
]

MIN_RANK = 2.0  # one direction can only put items in an order
MIN_RANK_SHARE = 0.05  # of the directions that n items in d dimensions can have
MIN_SPREAD = 0.01  # of the length of an embedding; rounding in bfloat16 alone reaches 0.003
MIN_GAP_SHARE = 0.01  # of the shuffled energy
MIN_GAP_ERRORS = 3.0  # standard errors of the paired difference
_UNJUDGED = "no pooled embedding of one modality is trained; the collapse guard judges what is"
ROUNDING = 1e-6  # of the whole matrix; smaller singular values are float32 rounding, thus zero


class Learned(NamedTuple):
    """What an objective trains of the pooled embeddings, and so can be held against it."""

    modalities: tuple[str, ...]
    directions: tuple[str, ...]  # in which one modality predicts the other


EVERYTHING = Learned(("image", "text"), ("image_to_text", "text_to_image"))


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


def rank_bound(available: int | float) -> float:
    """The effective rank below which embeddings count as collapsed; see `collapse_readings`."""
    return min(max(MIN_RANK, MIN_RANK_SHARE * available), available / 2)


def collapse_readings(
    image: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    matched_energy: Float[Tensor, " n"],
    shuffled_energy: Float[Tensor, " n"],
    learned: Learned = EVERYTHING,
) -> Collapse:
    """Readings and verdict for n pairs; `shuffled_energy[k]` is image k's with another pair's text.

    Energies are raw ones (≥ 0); a calibrated energy has no natural zero to be relative to. The
    verdict is "collapsed" where any of these holds, and `reason` says which:

    - **Few directions.** The effective rank of a modality is below max(2, 5 % of the directions
      available), where min(d, n − 1) are available, and never asks for more than half of those.
      Two, because one direction can only put items in an order; 5 %, because a model that learns
      without regularizer was seen to sink to 2.7 of 64 while its loss looked well.
    - **No spread.** mean std × √d is below 1 % of the mean length of the embeddings. For centred
      embeddings that ratio is near 1 whatever their scale and dimension; a constant plus the
      rounding of bfloat16 stays near 0.003, and has full rank, which is why rank is not enough.
    - **Pairs do not matter.** The gap (shuffled − matched) is below 1 % of the shuffled energy, or
      below three standard errors of the paired differences. The share makes it free of scale: a
      predictor that explains a share ρ of the target's variance has (1 − ρ) against (1 + ρ), so a
      gap share of 2ρ/(1 + ρ), and 1 % is ρ = 0.5 %, well below any use. The standard errors keep
      luck in a small sample from passing as a gap. An untrained model also fails here.
    - **Not a number.** Any reading is not finite.

    All rules are unchanged when embeddings, or energies, are multiplied by a positive number.
    They apply to what is `learned` alone; where nothing is, the verdict is "unjudged". Raises
    `DataError` for fewer than two pairs.
    """
    _enough(image)
    readings = {"image": _modality(image), "text": _modality(text)}
    matched = float(matched_energy.double().mean())
    shuffled = float(shuffled_energy.double().mean())
    problems = [
        problem
        for name, x in (("image", image), ("text", text))
        if name in learned.modalities
        and (problem := _modality_problem(name, x, readings[name])) is not None
    ]
    if learned.directions:
        gap_problem = _gap_problem(matched_energy, shuffled_energy)
        problems += [] if gap_problem is None else [gap_problem]
    verdict: Literal["healthy", "collapsed", "unjudged"]
    if not any(learned):
        verdict, reason = "unjudged", _UNJUDGED
    elif problems:
        verdict, reason = "collapsed", "; ".join(problems)
    else:
        verdict, reason = "healthy", _healthy(readings, matched, shuffled, learned)
    return Collapse(
        image=readings["image"],
        text=readings["text"],
        matched_energy=matched,
        shuffled_energy=shuffled,
        verdict=verdict,
        reason=reason,
    )


def _enough(x: Tensor) -> None:
    if x.shape[0] < 2:
        raise DataError(f"collapse readings from {x.shape[0]} items: give at least 2")


def _modality(x: Tensor) -> ModalityReadings:
    std = per_dimension_std(x)
    return ModalityReadings(
        effective_rank=effective_rank(x),
        dimensions=x.shape[1],
        mean_std=float(std.mean()),
        min_std=float(std.min()),
    )


def _modality_problem(name: str, x: Tensor, readings: ModalityReadings) -> str | None:
    """What is wrong with one modality, in words, or None."""
    remedy = f"a larger regularizer weight for {name}s or a lower learning rate usually helps"
    length = float(x.double().norm(dim=1).mean())
    if not all(math.isfinite(v) for v in (readings.effective_rank, readings.mean_std, length)):
        return f"{name} embeddings are not all finite; a lower learning rate usually helps"
    if math.sqrt(readings.dimensions) * readings.mean_std < MIN_SPREAD * length or length == 0.0:
        return f"{name} embeddings are nearly the same for every {name}; {remedy}"
    available = min(readings.dimensions, x.shape[0] - 1)
    bound = rank_bound(available)
    if readings.effective_rank < bound:
        return (
            f"{name} embeddings use {readings.effective_rank:.1f} of {readings.dimensions}"
            f" directions (at least {bound:.1f} expected); {remedy}"
        )
    return None


def _gap_problem(matched: Tensor, shuffled: Tensor) -> str | None:
    """What is wrong with the gap between shuffled and matched energies, in words, or None."""
    difference = shuffled.double() - matched.double()
    gap = float(difference.mean())
    error = float(difference.std()) / math.sqrt(difference.numel())
    scale = max(abs(float(matched.double().mean())), abs(float(shuffled.double().mean())))
    if not all(math.isfinite(v) for v in (gap, error, scale)):
        return "energies are not all finite; a lower learning rate usually helps"
    if gap > 0 and gap >= MIN_GAP_SHARE * scale and gap >= MIN_GAP_ERRORS * error:
        return None
    share = f"{gap / scale:.1%}".replace("%", " %") if scale > 0 else "0 %"
    return (
        f"matched pairs are not clearly lower in energy than shuffled ones (gap {share} of the"
        " energy), so predictions hardly depend on the input; train longer, or give the cross-modal"
        " tasks more weight, and check that captions belong to their images"
    )


def _healthy(
    readings: dict[str, ModalityReadings], matched: float, shuffled: float, learned: Learned
) -> str:
    ranks = (f"{readings[name].effective_rank:.1f} ({name})" for name in learned.modalities)
    words = f"embeddings use {' and '.join(ranks)} of {readings['image'].dimensions} directions"
    if not learned.directions:
        return words
    share = (shuffled - matched) / max(abs(shuffled), abs(matched))
    return f"{words}, and matched pairs have {100 * share:.0f} % less energy than shuffled ones"
