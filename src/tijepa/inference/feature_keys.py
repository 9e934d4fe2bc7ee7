"""The keys of features: what a frozen encoder, and how its inputs are made, come to.

A key is a hash of the encoder's weights, architecture and precision, of how its inputs are made,
and of whether tokens are kept. So another size of images or another pooling has features of its
own, and whoever comes to the same key may read the features that lie under it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tijepa.data.features.cached_features import Modality
from tijepa.data.tokenizer import Tokenizer
from tijepa.model.pretrained.weights import hash_of_weights
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel

__all__ = ["feature_key", "image_inputs", "keys_of_model", "text_inputs"]

_FORMAT = 2
_UNTRAINED = ("mode", "layers", "rank")  # arguments of a backbone that do not change what it gives
_PRECISIONS = (torch.float32, torch.bfloat16)  # the best first


def image_inputs(image_size: int, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    """How images become inputs."""
    return [image_size, list(mean), list(std)]


def text_inputs(max_tokens: int, tokenizer: Tokenizer) -> list[Any]:
    """How texts become inputs."""
    return [max_tokens, tokenizer.fingerprint()]


def feature_key(
    part: nn.Module,
    arguments: Mapping[str, Any],
    inputs: Sequence[Any],
    *,
    tokens: bool,
    precision: torch.dtype,
) -> str:
    """16 hexadecimal digits; `arguments` are those that the encoder `part` was built from."""
    return _keys(part, arguments, inputs, [(precision, tokens)])[0]


def keys_of_model(
    model: TextImageModel, card: ModelCard, tokenizer: Tokenizer
) -> dict[Modality, list[str]]:
    """For each pretrained encoder of a model the keys its features can have, the best first."""
    making = [(precision, tokens) for precision in _PRECISIONS for tokens in (False, True)]
    parts: dict[Modality, tuple[nn.Module, list[Any]]] = {
        "image": (model.context.image, image_inputs(card.image_size, card.mean, card.std)),
        "text": (model.context.text, text_inputs(card.max_tokens, tokenizer)),
    }
    arguments = card.arguments["encoders"]
    return {
        modality: _keys(part, arguments[modality], inputs, making)
        for modality, (part, inputs) in parts.items()
        if "mode" in arguments[modality]
    }


def _keys(
    part: nn.Module,
    arguments: Mapping[str, Any],
    inputs: Sequence[Any],
    making: Sequence[tuple[torch.dtype, bool]],
) -> list[str]:
    network = {k: v for k, v in arguments.items() if k not in _UNTRAINED}
    weights = hash_of_weights(part.state_dict())
    found = []
    for precision, tokens in making:
        made = [_FORMAT, network, inputs, tokens, weights, str(precision)]
        text = json.dumps(made, sort_keys=True)
        found.append(hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
    return found
