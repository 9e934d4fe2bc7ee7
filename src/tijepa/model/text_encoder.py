"""Bidirectional text transformer that can be shown a part of the tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens, pool
from tijepa.model.transformer import Transformer, initialise, positions_1d


class TextEncoder(nn.Module):
    """Token ids → tokens. Hidden tokens are dropped before the first layer.

    `pooling` is "mean" over the visible tokens or "class" for the first token, which the
    tokenizer puts before every caption and which is never hidden.
    """

    position: Tensor
    frozen = False

    def __init__(
        self,
        *,
        vocab_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        pooling: str = "mean",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert pooling in ("mean", "class"), pooling
        self.max_tokens = max_tokens
        self.width = self.pooled_width = width
        self.pooling = pooling
        self.embed = nn.Embedding(vocab_size, width)
        self.register_buffer("position", positions_1d(max_tokens, width), persistent=False)
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, checkpointing=checkpointing
        )
        initialise(self)
        # words as strong as positions, whose entries have mean square 1/2
        nn.init.normal_(self.embed.weight, std=0.5**0.5)

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], visible: TokenSubset | None = None
    ) -> Encoded:
        """Encode the `visible` tokens, or all that `mask` marks as real."""
        x = self.embed(ids) + self.position[: ids.shape[1]]
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            x, index, mask = gather_tokens(x, visible.index), visible.index, visible.mask
        tokens = self.transformer(x, mask)
        pooled = tokens[:, 0] if self.pooling == "class" else pool(tokens, mask)
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pooled)
