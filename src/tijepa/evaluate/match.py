"""The probability of match, measured: what happens of what it calls 70 % likely.

Pure functions of energies and probabilities. Matched pairs are images with their own first text;
shuffled pairs are images with the first text of another image, some for each image, spread evenly
over the set. Both kinds get half of the weight, so every figure speaks of a prior of one half.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.inference.match_probability import MatchProbability, fit_match_probability
from tijepa.inference.results import Bin, Match

BINS = 10
SHUFFLES = 20  # shuffled pairs of each image


class MatchEnergies(NamedTuple):
    """Energies of n matched pairs and of s shuffled pairs of the same images."""

    matched: Float[Tensor, " n"]
    shuffled: Float[Tensor, "n s"]


def match_energies(energy: Float[Tensor, "n n"]) -> MatchEnergies:
    """Diagonal, and up to 20 shifted diagonals, of the energies of n ≥ 2 aligned pairs."""
    n = len(energy)
    assert n >= 2, n
    shuffles = min(SHUFFLES, n - 1)
    shifts = torch.tensor([1 + k * (n - 1) // shuffles for k in range(shuffles)])
    own = torch.arange(n)
    others = (own[:, None] + shifts) % n
    return MatchEnergies(energy[own, own], energy.gather(1, others))


def match_results(energy: Float[Tensor, "n n"], match: MatchProbability, *, seen: bool) -> Match:
    """Reliability of `match` on aligned pairs.

    Where `match` was fitted on these very pairs (`seen`), it is not judged on them: it is fitted
    anew on one half of the images and judged on the other, both ways.
    """
    e = match_energies(energy)
    p = MatchEnergies(match.probability(e.matched.double()), match.probability(e.shuffled.double()))
    if seen:
        for half in (0, 1):
            other = fit_match_probability(
                e.matched[1 - half :: 2], e.shuffled[1 - half :: 2].flatten()
            )
            p.matched[half::2] = other.probability(e.matched[half::2].double())
            p.shuffled[half::2] = other.probability(e.shuffled[half::2].double())
    matched = torch.arange(e.matched.numel() + e.shuffled.numel()) < e.matched.numel()
    return replace(
        reliability(torch.cat([p.matched, p.shuffled.flatten()]), matched),
        fitted_on="the other half of the split" if seen else "validation",
        roc_auc=roc_auc(e.matched, e.shuffled.flatten()),
    )


def reliability(probability: Float[Tensor, " n"], matched: Bool[Tensor, " n"]) -> Match:
    """Expected calibration error, Brier score, and ten bins of equal width, at a prior of one half.

    Of each bin: the weight of its pairs (`share`), their mean `predicted` probability and the share
    that is `matched`, NaN where the bin is empty. The expected calibration error is the mean of
    |predicted − matched| over pairs. A coin, 0.5 for every pair, has an error of 0 and a Brier
    score of 0.25, so the two belong together. Needs a pair of each kind.
    """
    p, y = probability.double(), matched.double()
    weight = torch.where(matched, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    index = (p * BINS).long().clamp(0, BINS - 1)

    def total(x: Tensor) -> Tensor:
        return torch.zeros(BINS, dtype=torch.float64).scatter_add(0, index, weight * x)

    share, predicted, found = total(torch.ones_like(p)), total(p), total(y)
    means = zip(share.tolist(), (predicted / share).tolist(), (found / share).tolist(), strict=True)
    return Match(
        prior=0.5,
        matched_pairs=int(y.sum()),
        shuffled_pairs=int((1 - y).sum()),
        expected_calibration_error=float((predicted - found).abs().sum()),
        brier=float(weight @ (p - y).square()),
        bins=tuple(Bin(k / BINS, (k + 1) / BINS, *one) for k, one in enumerate(means)),
    )


def roc_auc(matched: Float[Tensor, " n"], shuffled: Float[Tensor, " m"]) -> float:
    """Chance that a matched pair has a lower energy than a shuffled one, ties counting half."""
    ordered = shuffled.sort().values
    above = len(ordered) - torch.searchsorted(ordered, matched, right=True)
    not_below = len(ordered) - torch.searchsorted(ordered, matched)
    return float((above + not_below).double().mean()) / (2 * len(ordered))
