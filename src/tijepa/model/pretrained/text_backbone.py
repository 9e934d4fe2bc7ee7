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
from tijepa.model.pretrained.transformers_backend import config_of, new_network, projection


class TextBackbone(nn.Module):
    """Token ids → tokens by a pretrained network of transformers; always in evaluation mode.

    `net` is its description (`tijepa.model.pretrained.transformers_backend`) with its `width`.
    Hidden tokens are not attended to, so they have no influence on the visible ones, which keep
    their positions. `pooling` is "mean" over the visible tokens, "class" for the first one, or
    "layers" for three vectors end to end, the means of the word embeddings and of the last two
    layers: words that the last layer no longer tells apart are still there.
    "projected" is the vector that a text-image model compares with images; SigLIP's reads padding
    up to the length that it was trained with. `normalise` scales the pooled token to length 1. The
    rest as in `ImageBackbone`.
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
        assert pooling in ("mean", "class", "layers", "projected"), pooling
        built = config_of(net)
        self.net = new_network(net, built)
        self.width = int(net["width"])
        self.pooled_width = self.width * (3 if pooling == "layers" else 1)
        self._pad_to, self._pad_id = 0, int(built.pad_token_id or 0)
        if pooling == "projected":
            self.pooled_width = int(net["projected"])
            self.net.projection = projection(net, self.width)
            if not net["linear"]:  # SigLIP takes the last token of its full length, CLIP its end
                self._pad_to = int(built.max_position_embeddings)
        Tuning(mode, layers, rank).apply(self.net)
        self.mode = mode
        self.pooling = pooling
        self.normalise = normalise
        self.max_tokens = max_tokens
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
        if self._pad_to:
            out = self.net(input_ids=self._padded(ids, mask))
        else:
            more = {"output_hidden_states": True} if layers else {}  # not every network knows it
            out = self.net(input_ids=ids, attention_mask=seen.long(), **more)
        tokens, earlier = out.last_hidden_state[:, : ids.shape[1]].float(), []
        if layers:
            earlier = [out.hidden_states[k].float() for k in (0, -2)]
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            tokens, index, mask = gather_tokens(tokens, visible.index), visible.index, visible.mask
            earlier = [gather_tokens(one, visible.index) for one in earlier]
        pooled = tokens[:, 0] if self.pooling == "class" else pool(tokens, mask)
        if self.pooling == "projected":
            pooled = self.net.projection(out.pooler_output).float()  # type: ignore[operator]
        if layers:
            pooled = torch.cat([*(pool(one, mask) for one in earlier), pooled], dim=1)
        if self.normalise:
            pooled = F.normalize(pooled, dim=1)
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pooled)

    def _padded(self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        ids = torch.where(mask, ids, self._pad_id)
        return F.pad(ids, (0, self._pad_to - ids.shape[1]), value=self._pad_id)
