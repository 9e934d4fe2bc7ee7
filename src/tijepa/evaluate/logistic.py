"""Multinomial logistic regression: a convex problem, solved to its minimum, the same every time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Affine", "balanced_weights", "fit_logistic", "log_loss"]

_STEPS = 500
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class Affine:
    """Logits = features · weight + bias."""

    weight: Float[Tensor, "d c"]
    bias: Float[Tensor, " c"]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Logits of every row."""
        return features.to(self.weight.dtype) @ self.weight + self.bias


def fit_logistic(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    *,
    decay: float,
    class_weights: Float[Tensor, " c"] | None = None,
    start: Affine | None = None,
) -> Affine:
    """The minimum of weighted mean cross-entropy + ½ `decay` ‖weight‖², in float64 by L-BFGS.

    The bias is not decayed. Class weights multiply an item's cross-entropy and the mean divides by
    their sum. With decay > 0 the minimum is unique up to a constant added to all biases; they are
    given with mean 0. `start`, such as the fit at a neighbouring decay, only saves time.
    """
    assert decay > 0, decay
    x = features.double()
    weight = torch.zeros(x.shape[1], classes, dtype=torch.float64)
    bias = torch.zeros(classes, dtype=torch.float64)
    if start is not None:
        weight, bias = start.weight.clone(), start.bias.clone()
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    class_weights = None if class_weights is None else class_weights.double()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, labels, class_weights)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return Affine(weight.detach(), bias.detach() - bias.detach().mean())


def balanced_weights(labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, " c"]:
    """n / (c · items of the class), so that all classes weigh the same; 0 for one without items."""
    counts = torch.bincount(labels, minlength=classes).double()
    weights = len(labels) / (classes * counts)
    return torch.where(counts > 0, weights, 0.0)


def log_loss(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    class_weights: Float[Tensor, " c"] | None = None,
) -> float:
    """Mean cross-entropy in nats, weighted as in `fit_logistic`."""
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    return float(F.cross_entropy(logits, labels, weights))
