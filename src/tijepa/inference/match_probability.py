"""Probability that a pair is matched, from its energy: a logistic curve with two parameters.

P(match | E) = σ(intercept − slope · E + log odds of the prior), fitted on held-out pairs by
logistic regression with Platt's targets (Platt 1999, "Probabilistic outputs for support vector
machines", eq. 6), matched and shuffled pairs each with half of the weight. So the fit answers "is
this pair matched or shuffled, one of each being equally frequent", and Bayes' rule carries it to
any other frequency of matched pairs by adding that prior's log odds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.errors import ConfigError

BASE_RATE = 0.5  # of matched pairs among those that the fit tells apart
_STEPS = 50  # of Newton's method, which needs about ten


@dataclass(frozen=True)
class MatchProbability:
    """`slope` ≥ 0: a lower energy is never less probable. 0 where energy says nothing of pairs."""

    slope: float
    intercept: float

    def probability(
        self, energy: Float[Tensor, "*pairs"], prior: float = BASE_RATE
    ) -> Float[Tensor, "*pairs"]:
        """P(match) where a share `prior` of pairs is matched; `ConfigError` outside (0, 1)."""
        if not 0.0 < prior < 1.0:
            raise ConfigError(f"prior is {prior}: it must lie between 0 and 1, both excluded")
        logit = self.intercept - self.slope * energy.double() + math.log(prior / (1 - prior))
        return torch.sigmoid(logit).to(energy.dtype)

    def state(self) -> dict[str, Tensor]:
        """The numbers as named tensors."""
        return {
            name: torch.tensor(getattr(self, name), dtype=torch.float64)
            for name in self.__dataclass_fields__
        }

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> MatchProbability:
        """The inverse of `state`, of what stands under `prefix`."""
        return cls(**{f: float(named[f"{prefix}.{f}"]) for f in cls.__dataclass_fields__})


def known_match(match: MatchProbability | None, who: str) -> MatchProbability:
    """The same where there is one; `ConfigError` that names who needs it where there is none."""
    if match is None:
        raise ConfigError(
            "this model has no probability of match, which is fitted on a validation split:"
            f" {who} needs one; use energy(), or train with validation pairs"
        )
    return match


def fit_match_probability(
    matched: Float[Tensor, " n"], shuffled: Float[Tensor, " m"]
) -> MatchProbability:
    """Fit on the energies of n matched and m shuffled pairs, both finite and n, m ≥ 1.

    Platt's targets, (n + 1)/(n + 2) and 1/(m + 2) in place of 1 and 0, keep the curve finite where
    the two do not overlap. Where matched pairs do not have the lower energy the slope is 0 and the
    probability is the prior.
    """
    assert matched.numel() > 0, "no matched pairs"
    assert shuffled.numel() > 0, "no shuffled pairs"
    n, m = matched.numel(), shuffled.numel()
    energy = torch.cat([matched, shuffled]).detach().cpu().double()
    target = torch.cat([_full(n, (n + 1) / (n + 2)), _full(m, 1 / (m + 2))])
    weight = torch.cat([_full(n, 0.5 / n), _full(m, 0.5 / m)])
    centre = float(energy @ weight)
    scale = float(((energy - centre).square() @ weight).sqrt())
    if scale <= 1e-9 * abs(centre) or matched.double().mean() >= shuffled.double().mean():
        return MatchProbability(slope=0.0, intercept=0.0)
    x = torch.stack([torch.ones_like(energy), (centre - energy) / scale], dim=1)
    intercept, slope = _logistic(x, target, weight)
    return MatchProbability(slope=slope / scale, intercept=intercept + slope * centre / scale)


def _full(count: int, value: float) -> Tensor:
    return torch.full((count,), value, dtype=torch.float64)


def _logistic(x: Tensor, target: Tensor, weight: Tensor) -> list[float]:
    """Newton's method with halved steps on the weighted cross-entropy, which is convex."""

    def cost(theta: Tensor) -> Tensor:
        logit = x @ theta
        return weight @ (torch.nn.functional.softplus(logit) - target * logit)

    theta = torch.zeros(x.shape[1], dtype=x.dtype)
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ theta)
        gradient = x.T @ (weight * (p - target))
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x
        curvature += 1e-12 * torch.eye(len(theta), dtype=x.dtype)
        step = torch.linalg.solve(curvature, gradient)
        while cost(theta - step) > cost(theta) and step.abs().max() > 1e-12:
            step = step / 2
        theta = theta - step
        if step.abs().max() < 1e-10:
            break
    found: list[float] = theta.tolist()
    return found
