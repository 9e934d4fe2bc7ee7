"""A pooled predictor that is not trained: the covariance of what it predicts.

Let x be the context's pooled embedding and t the target's, both centred, and C = E[t tᵀ]. Predict t
by C x, measured in the metric of C (the squared Mahalanobis distance), t held fixed:

    ½ (C x − t)ᵀ C⁻¹ (C x − t)  =  ½ xᵀ C x − xᵀ t + ½ tᵀ C⁻¹ t.

The last term does not depend on the context, and the others need no inverse. So the context encoder
itself learns to predict, and C only carries its answer into the target's space: at the minimum C x
is E[t | context], as for a trained predictor. Both directions together have the gradient of the
least-squares fit of 1 + xᵀt to the density ratio p(x, t) / p(x) p(t) (Sugiyama, Suzuki and Kanamori
2012; on augmented views HaoChen et al., arXiv 2106.04156), with two covariances in place of
negatives.

A dimension in which the target hardly varies costs hardly anything, and whatever correlation there
is makes it grow: a constant is no resting place, and no regularizer is needed. Nor is there a scale
to choose: in both modalities a dimension settles at the variance that is its correlation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CovariancePredictor"]

Sum = Callable[[Tensor], Tensor]  # over the processes that share the batch

_EXACT = 8192  # items over which the moments of `forward` are averaged


class CovariancePredictor(nn.Module):
    """g(x) = E[t] + Cov(t) (x − E[x]), from running moments of embeddings of dimension `dim`.

    Training measures by the means of the last batch, so that no error of prediction moves them, and
    by a covariance of about `memory` items, the last batch at least: embeddings move while they are
    learned, and old moments mislead more than few items do. Evaluation uses moments of 8,192 items.
    """

    context_mean: Tensor
    target_mean: Tensor
    covariance: Tensor
    exact_context_mean: Tensor
    exact_target_mean: Tensor
    exact_covariance: Tensor
    seen: Tensor

    def __init__(self, dim: int, *, memory: int) -> None:
        super().__init__()
        self.memory = memory
        for prefix in ("", "exact_"):
            self.register_buffer(f"{prefix}context_mean", torch.zeros(dim))
            self.register_buffer(f"{prefix}target_mean", torch.zeros(dim))
            self.register_buffer(f"{prefix}covariance", torch.eye(dim))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def observe(
        self, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"], total: Sum
    ) -> None:
        """Take in a batch of at least two; `total` sums over the processes that share it."""
        n = total(target.new_tensor(float(len(target))))
        context_mean, target_mean = total(context.sum(dim=0)) / n, total(target.sum(dim=0)) / n
        # around the batch's own mean: a running mean lags behind, and its error would count squared
        centred = target - target_mean
        covariance = total(centred.T @ centred) / (n - 1)
        self.seen += n
        recent = n / torch.minimum(self.seen, n.clamp(min=float(self.memory)))
        share = n / torch.minimum(self.seen, n.clamp(min=float(_EXACT)))
        self.context_mean.copy_(context_mean)
        self.target_mean.copy_(target_mean)
        self.covariance.lerp_(covariance, recent)
        self.exact_context_mean.lerp_(context_mean, share)
        self.exact_target_mean.lerp_(target_mean, share)
        self.exact_covariance.lerp_(covariance, share)

    def energy(
        self, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """(½ xᵀ C x − xᵀ t) / d of each pair, by the moments of the mode that the module is in.

        The energy less what is the same for every context: it may be negative.
        """
        prefix = "" if self.training else "exact_"
        x = context - self.get_buffer(f"{prefix}context_mean")
        t = target - self.get_buffer(f"{prefix}target_mean")
        return (0.5 * (x @ self.get_buffer(f"{prefix}covariance")) * x - x * t).mean(dim=1)

    def forward(self, context: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The predicted target embeddings."""
        moved: Tensor = (context - self.exact_context_mean) @ self.exact_covariance
        return self.exact_target_mean + moved
