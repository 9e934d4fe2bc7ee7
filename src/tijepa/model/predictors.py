"""The token-level predictor: context tokens + mask tokens → predicted target embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.model.encoded import Encoded
from tijepa.model.transformer import Transformer, initialise, positions_1d, positions_2d
from tijepa.registry import PositiveInt, Section, register


class TokenPredictor(nn.Module):
    """A narrow transformer over the context tokens of one or both modalities and mask tokens.

    A mask token is a learned query of the wanted modality plus the position of the thing to
    predict (I-JEPA, arXiv 2301.08243, section 3). One predictor serves every token-level task.
    Without `text_width` it knows images alone, or whatever else stands on the grid of patches.
    """

    def __init__(
        self,
        *,
        image_width: int,
        text_width: int | None = None,
        grid: int,
        max_tokens: int | None = None,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert (text_width is None) == (max_tokens is None), (text_width, max_tokens)
        widths = {"image": image_width}
        if text_width is not None:
            widths["text"] = text_width
        self.project_in = nn.ModuleDict({m: nn.Linear(widths[m], width) for m in widths})
        self.project_out = nn.ModuleDict({m: nn.Linear(width, widths[m]) for m in widths})
        self.register_buffer("position_image", positions_2d(grid, grid, width), persistent=False)
        if max_tokens is not None:
            self.register_buffer("position_text", positions_1d(max_tokens, width), persistent=False)
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, checkpointing=checkpointing
        )
        initialise(self)
        self.mask_token = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(width) * 0.02) for m in widths}
        )

    def forward(
        self,
        context: Sequence[tuple[str, Encoded]],
        modality: str,
        index: Int[Tensor, "b m"],
        mask: Bool[Tensor, "b m"],
    ) -> Float[Tensor, "b m d"]:
        """Predict the target tokens at `index` of `modality` from `(modality, encoded)` contexts.

        Rows of the result where `mask` is False are padding and mean nothing.
        """
        parts = [self.project_in[m](e.tokens) + self._position(m)[e.position] for m, e in context]
        masks = [e.mask for _, e in context]
        queries = self.mask_token[modality] + self._position(modality)[index]
        x = torch.cat([*parts, queries.to(parts[0].dtype)], dim=1)
        out = self.transformer(x, torch.cat([*masks, mask], dim=1))
        predicted: Tensor = self.project_out[modality](out[:, -index.shape[1] :])
        return predicted

    def _position(self, modality: str) -> Tensor:
        position: Tensor = getattr(self, f"position_{modality}")
        return position


# A pooled predictor that is not trained: the covariance of what it predicts.
#
# Let x be the context's pooled embedding and t the target's, both centred, and C = E[t tᵀ]. Predict
# t by C x, measured in the metric of C (the squared Mahalanobis distance), t held fixed:
#
#     ½ (C x − t)ᵀ C⁻¹ (C x − t)  =  ½ xᵀ C x − xᵀ t + ½ tᵀ C⁻¹ t.
#
# The last term does not depend on the context, and the others need no inverse. So the context
# encoder itself learns to predict, and C only carries its answer into the target's space: at the
# minimum C x is E[t | context], as for a trained predictor. Both directions together have the
# gradient of the least-squares fit of 1 + xᵀt to the density ratio p(x, t) / p(x) p(t) (Sugiyama,
# Suzuki and Kanamori 2012; on augmented views HaoChen et al., arXiv 2106.04156), with two
# covariances in place of negatives.
#
# A dimension in which the target hardly varies costs hardly anything, and whatever correlation
# there is makes it grow: a constant is no resting place, and no regularizer is needed. Nor is there
# a scale to choose: in both modalities a dimension settles at the variance that is its correlation.

Sum = Callable[[Tensor], Tensor]  # over the processes that share the batch

_EXACT = 8192  # items over which the moments of `forward` are averaged


class CovarianceConfig(Section):
    """The target's covariance as predictor: nothing to train, no regularizer wanted."""

    memory: PositiveInt = 64  # pairs that it is averaged over, the batch at least


@register("predictor", "covariance", config=CovarianceConfig)
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
        n = total(target.new_full((), len(target)))
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
