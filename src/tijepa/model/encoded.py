"""What an encoder returns, the same for both modalities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


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
