"""What a pretrained image network returns, whatever library it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.model.encoded import TokenSubset, pool

# vectors that a pooled token holds: a summary (the class token or its like), means of patches
POOLINGS = ("mean", "class", "class_mean", "grid")
_QUADRANTS = 4


@dataclass(frozen=True)
class BackboneOutput:
    """Patch tokens with their row-major positions, padding masked, and the network's own summary.

    `summary` is the class token after the last norm, or what the network pools by itself (SigLIP);
    None where it has neither (I-JEPA).
    """

    tokens: Float[Tensor, "b n d"]
    position: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    summary: Float[Tensor, "b d"] | None


class ImageNet(nn.Module):
    """A pretrained image network: pixels of `grid` x `grid` patches to `Seen` of width `width`."""

    width: int
    grid: int
    has_summary: bool

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> BackboneOutput:
        """See the `visible` patches, or all of them; hidden ones have no influence."""
        raise NotImplementedError


def parts_of(pooling: str, has_summary: bool) -> int:
    """How many vectors of the network's width the pooled token holds."""
    assert pooling in POOLINGS, pooling
    if pooling == "grid":
        return has_summary + 1 + _QUADRANTS
    return 2 if pooling == "class_mean" else 1


def pooled(seen: BackboneOutput, pooling: str, grid: int) -> Float[Tensor, "b p"]:
    """One vector per image.

    "class": the summary; "mean": the mean of the patches; "class_mean": both end to end; "grid":
    the summary (where there is one), the mean, and the means of the four quarters, row-major. A
    quarter without visible patches gives zeros.
    """
    mean = pool(seen.tokens, seen.mask)
    if pooling == "mean":
        return mean
    summary = [] if seen.summary is None else [seen.summary]
    assert summary or pooling == "grid", pooling
    if pooling == "class":
        return summary[0]
    quarters = [quadrant_means(seen, grid).flatten(1)] if pooling == "grid" else []
    return torch.cat([*summary, mean, *quarters], dim=1)


def quadrant_means(seen: BackboneOutput, grid: int) -> Float[Tensor, "b 4 d"]:
    """Mean token of each quarter; with an odd `grid` the middle row counts to the lower ones."""
    row, column = seen.position // grid, seen.position % grid
    quarter = 2 * (row >= grid // 2).long() + (column >= grid // 2).long()
    weight = nn.functional.one_hot(quarter, _QUADRANTS) * seen.mask[:, :, None]
    weight = weight.to(seen.tokens.dtype)
    total = weight.transpose(1, 2) @ seen.tokens
    return total / weight.sum(dim=1)[:, :, None].clamp(min=1.0)
