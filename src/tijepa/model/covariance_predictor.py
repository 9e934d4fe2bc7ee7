"""A pooled predictor that is not trained: the covariance of what it predicts.

Let x be the context's pooled embedding and t the target's, both centred, C_T = E[t tᵀ]. Among all
functions x of the context, the one for which C_T x is the best prediction of t in the metric of
C_T (the squared Mahalanobis distance) minimises

    E[½ (C_T x − t)ᵀ C_T⁻¹ (C_T x − t)] = E[½ xᵀ C_T x − xᵀ t] + const.

So the context encoder itself does the predicting, C_T only carries its answer into the target's
space, and no inverse is needed. Summed over both directions, with each target held fixed, this is
the gradient of the least-squares fit of 1 + xᵀt to the density ratio p(x, t) / p(x) p(t) (Sugiyama,
Suzuki and Kanamori 2012; spectral form: HaoChen et al. 2021, arXiv 2106.04156), whose negatives are
replaced by two covariances. A dimension that the target does not vary in costs nothing and is
pulled up by whatever correlation there is, so a constant is no minimum: no regularizer is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CovariancePredictor"]

Sum = Callable[[Tensor], Tensor]  # over the processes that share the batch


class CovariancePredictor(nn.Module):
    """g(x) = E[t] + Cov(t) (x − E[x]), from running moments.

    `observe` takes in a batch. What training measures by remembers about `memory` items, for
    embeddings move while they are learned; what `forward` predicts with remembers `memory` x
    `patience`, since it should be exact.
    """

    context_mean: Tensor
    target_mean: Tensor
    covariance: Tensor
    slow_context_mean: Tensor
    slow_target_mean: Tensor
    slow_covariance: Tensor
    seen: Tensor

    def __init__(self, dim: int, *, memory: int = 128, patience: int = 50) -> None:
        super().__init__()
        self.memory = memory
        self.patience = patience
        for name in ("", "slow_"):
            self.register_buffer(f"{name}context_mean", torch.zeros(dim))
            self.register_buffer(f"{name}target_mean", torch.zeros(dim))
            self.register_buffer(f"{name}covariance", torch.eye(dim))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def observe(
        self, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"], total: Sum
    ) -> None:
        """Take the moments of a batch into the running ones."""
        n = total(target.new_tensor(float(len(target))))
        means = total(context.sum(dim=0)) / n, total(target.sum(dim=0)) / n
        self.seen += n
        for prefix, memory in (("", self.memory), ("slow_", self.memory * self.patience)):
            share = n / torch.minimum(self.seen, torch.clamp(n, min=float(memory)))
            getattr(self, f"{prefix}context_mean").lerp_(means[0], share)
            target_mean = getattr(self, f"{prefix}target_mean").lerp_(means[1], share)
            centred = target - target_mean
            getattr(self, f"{prefix}covariance").lerp_(total(centred.T @ centred) / n, share)

    def energy(
        self, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """½ xᵀ C x − xᵀ t of each pair, per dimension: the part that depends on the context."""
        x, t = context - self.context_mean, target - self.target_mean
        return (0.5 * (x @ self.covariance * x) - x * t).mean(dim=1)

    def forward(self, context: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The predicted target embedding."""
        moved: Tensor = (context - self.slow_context_mean) @ self.slow_covariance
        return self.slow_target_mean + moved
