"""Text networks of the library transformers: BERT-like, gte, ModernBERT, the encoder of T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from tijepa.model.backbones.library import config_of, model_class

__all__ = ["text_net"]


def text_net(config: Mapping[str, Any]) -> nn.Module:
    """The network of a `config.json`, its weights random; its tokens are `last_hidden_state`."""
    net: nn.Module = model_class(config)._from_config(config_of(config))
    return net
