"""What an encoder returns, the same for both modalities and for pretrained networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenSubset:
    """Which tokens an encoder may see: indices, and which of them are not padding."""

    index: Int[Tensor, "b k"]
    mask: Bool[Tensor, "b k"]


@dataclass(frozen=True)
class Encoded:
    """The output of an encoder.

    `tokens` are LayerNormed; `position` is where in the image (row-major) or caption each came
    from; rows of `mask` that are False are padding; `pooled` is one vector per item, for some
    pretrained encoders several vectors end to end.
    """

    tokens: Float[Tensor, "b n d"]
    position: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    pooled: Float[Tensor, "b p"]


def gather_tokens(x: Float[Tensor, "b n d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """Pick tokens `index[b]` of every row."""
    return torch.gather(x, 1, index[:, :, None].expand(-1, -1, x.shape[2]))


def pool(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """Mean over the tokens that are not padding."""
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask[:, :, None].to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1)


# What a pretrained image network returns, whatever library it comes from.


# vectors that a pooled token holds: a summary (the class token or its like), means of patches
POOLINGS = ("mean", "class", "class_mean", "grid", "projected")
_QUADRANTS = 4


class ImageNet(nn.Module):
    """A pretrained image network: pixels to `Encoded` of `grid` x `grid` patches, `width` wide.

    Its `pooled` is the network's own summary, which `has_summary` says of: the class token after
    the last norm, or what the network pools by itself (SigLIP). Else (I-JEPA) it has no columns.
    """

    width: int
    grid: int
    has_summary: bool
    projected_width = 0  # of a summary in the space that a text-image model compares in

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
        """See the `visible` patches, or all of them; hidden ones have no influence."""
        raise NotImplementedError


def patches_of(
    tokens: Float[Tensor, "b n d"], visible: TokenSubset | None, summary: Tensor | None
) -> Encoded:
    """Tokens of the `visible` patches, or of all, row-major, and the summary where there is one."""
    b = tokens.shape[0]  # `len` would fix the batch of a graph
    pooled = tokens.new_zeros(b, 0) if summary is None else summary
    if visible is not None:
        return Encoded(tokens, visible.index, visible.mask, pooled)
    index = torch.arange(tokens.shape[1], device=tokens.device).expand(b, -1)
    return Encoded(tokens, index, torch.ones_like(index, dtype=torch.bool), pooled)


def parts_of(pooling: str, has_summary: bool) -> int:
    """How many vectors of the network's width the pooled token holds."""
    assert pooling in POOLINGS, pooling
    if pooling == "grid":
        return has_summary + 1 + _QUADRANTS
    return 2 if pooling == "class_mean" else 1


def pooled(seen: Encoded, pooling: str, grid: int) -> Float[Tensor, "b p"]:
    """One vector per image.

    "class" and "projected": the summary; "mean": the mean of the patches; "class_mean": both end to
    end; "grid": the summary (where there is one), the mean, and the means of the four quarters,
    row-major. A quarter without visible patches gives zeros.
    """
    mean = pool(seen.tokens, seen.mask)
    if pooling == "mean":
        return mean
    assert seen.pooled.shape[1] or pooling == "grid", pooling
    if pooling in ("class", "projected"):
        return seen.pooled
    quarters = [quadrant_means(seen, grid).flatten(1)] if pooling == "grid" else []
    return torch.cat([seen.pooled, mean, *quarters], dim=1)


def quadrant_means(seen: Encoded, grid: int) -> Float[Tensor, "b 4 d"]:
    """Mean token of each quarter; with an odd `grid` the middle row counts to the lower ones."""
    row, column = seen.position // grid, seen.position % grid
    quarter = 2 * (row >= grid // 2).long() + (column >= grid // 2).long()
    weight = nn.functional.one_hot(quarter, _QUADRANTS) * seen.mask[:, :, None]
    weight = weight.to(seen.tokens.dtype)
    total = weight.transpose(1, 2) @ seen.tokens
    return total / weight.sum(dim=1)[:, :, None].clamp(min=1.0)
