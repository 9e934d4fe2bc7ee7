"""The shrinkage of the calibrated energy, chosen on pairs that neither it nor the model saw.

Judged by the cross-entropy of finding the own partner among the held-out ones, both ways, at the
temperature that suits the energy best: recall at 1 of some hundred pairs jumps about with the
shrinkage, this does not, and the order of energies, all that retrieval sees, has no temperature.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.calibration import Calibration, fit_calibration
from tijepa.objectives.embeddings import Embeddings

__all__ = ["GRID", "choose_calibration", "matching_cross_entropy"]

GRID = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
MAX_PAIRS = 512  # held-out pairs that are compared, each with each
_INVERSE_TEMPERATURES = torch.logspace(-2, 0.5, 16, dtype=torch.float64)


def choose_calibration(
    pairs: Embeddings, held_out: Embeddings, grid: tuple[float, ...] = GRID
) -> Calibration:
    """The calibration of training `pairs` whose shrinkage suits the aligned `held_out` pairs best.

    Of equal ones the first of `grid`.
    """
    some = held_out.images(slice(0, MAX_PAIRS)).texts(slice(0, MAX_PAIRS))
    fitted = [fit_calibration(pairs, shrinkage) for shrinkage in grid]
    costs = [matching_cross_entropy(calibration.energy(some)) for calibration in fitted]
    return fitted[costs.index(min(costs))]


def matching_cross_entropy(energy: Float[Tensor, "n n"]) -> float:
    """Mean of −log softmax(−E / T) at the own partner, both ways, at the best of 16 temperatures.

    In nats; log n where the energy says nothing.
    """
    logits = -energy.double()
    own = logits.diagonal().mean()
    costs = [
        ((k * logits).logsumexp(1).mean() + (k * logits).logsumexp(0).mean()) / 2 - k * own
        for k in _INVERSE_TEMPERATURES
    ]
    return float(torch.stack(costs).min())
