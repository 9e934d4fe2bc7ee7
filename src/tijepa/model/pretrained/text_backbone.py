"""A pretrained text network as an encoder like our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens, pool
from tijepa.model.pretrained.trainable import Tuning
from tijepa.model.pretrained.transformers_backend import config_of, new_network


class TextBackbone(nn.Module):
    """Token ids → tokens by a pretrained network of transformers; always in evaluation mode.

    `net` is its description (`tijepa.model.pretrained.transformers_backend`) with its `width`.
    Hidden tokens are not attended to, so they have no influence on the visible ones, which keep
    their positions. `pooling` is "mean" over the visible tokens, "class" for the first one, or
    "layers" for three vectors end to end, the means of the word embeddings and of the last two
    layers: words that the last layer no longer tells apart are still there.
    `normalise` scales the pooled token to length 1. The rest as in `ImageBackbone`.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        max_tokens: int,
        pooling: str = "mean",
        normalise: bool = False,
        mode: str = "frozen",
        layers: int = 2,
        rank: int = 8,
    ) -> None:
        super().__init__()
        assert pooling in ("mean", "class", "layers"), pooling
        self.net = new_network(net, config_of(net))
        Tuning(mode, layers, rank).apply(self.net)
        self.mode = mode
        self.pooling = pooling
        self.normalise = normalise
        self.max_tokens = max_tokens
        self.width = int(net["width"])
        self.pooled_width = self.width * (3 if pooling == "layers" else 1)
        self.train()

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is trained."""
        return self.mode == "frozen"

    def train(self, mode: bool = True) -> TextBackbone:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], visible: TokenSubset | None = None
    ) -> Encoded:
        """Encode the `visible` tokens, or all that `mask` marks as real."""
        seen = mask
        if visible is not None:
            seen = torch.zeros_like(mask, dtype=torch.long)
            seen = seen.scatter_add(1, visible.index, visible.mask.long()).bool()
        layers = self.pooling == "layers"
        out = self.net(input_ids=ids, attention_mask=seen.long(), output_hidden_states=layers)
        tokens, earlier = out.last_hidden_state.float(), []
        if layers:
            earlier = [out.hidden_states[k].float() for k in (0, -2)]
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            tokens, index, mask = gather_tokens(tokens, visible.index), visible.index, visible.mask
            earlier = [gather_tokens(one, visible.index) for one in earlier]
        pooled = tokens[:, 0] if self.pooling == "class" else pool(tokens, mask)
        if layers:
            pooled = torch.cat([*(pool(one, mask) for one in earlier), pooled], dim=1)
        if self.normalise:
            pooled = F.normalize(pooled, dim=1)
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pooled)
