"""What a run needs to know of a pretrained text encoder before it is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.backbones.folder import BackboneFolder, find_backbone
from tijepa.model.backbones.library import config_of, describe, pretrained

__all__ = ["TextSource", "open_text_source"]

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "class"}


@dataclass(frozen=True)
class TextSource:
    """The network, its tokenizer file with the id of padding, and where its weights are.

    `pooling` and `normalise` are what a folder of sentence-transformers asks for, `pooling` None
    for others. `max_tokens` is the longest text that it can read, None for any length.
    """

    net: dict[str, Any]
    width: int
    tokenizer: Path
    pad_id: int
    max_tokens: int | None
    pooling: str | None
    normalise: bool
    weights: Callable[[], dict[str, Tensor]]


def open_text_source(name: str, *, trust_remote_code: bool = False) -> TextSource:
    """Read configuration and tokenizer of a text backbone, not its weights.

    Raises `ConfigError` where it is not found, damaged or of an unknown kind.
    """
    folder = find_backbone(name)
    if "model_type" not in folder.json("config.json"):
        raise ConfigError(
            f"backbone '{name}' has no config.json with a model_type in {folder.path}: give a text "
            "model of transformers or sentence-transformers"
        )
    description = describe(folder, trust_remote_code=trust_remote_code)
    built = config_of(description)
    tokenizer = folder.path / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(
            f"backbone '{name}' has no tokenizer.json in {folder.path}: save its fast tokenizer "
            "there with save_pretrained"
        )
    pooling, normalise = _sentence_pooling(folder)
    longest = getattr(built, "max_position_embeddings", None)
    return TextSource(
        net={**description, "width": built.hidden_size},
        width=built.hidden_size,
        tokenizer=tokenizer,
        pad_id=int(built.pad_token_id or 0),
        max_tokens=longest,
        pooling=pooling,
        normalise=normalise,
        weights=lambda: pretrained(folder, description),
    )


def _sentence_pooling(folder: BackboneFolder) -> tuple[str | None, bool]:
    """Pooling, and whether to normalise, of a folder of sentence-transformers."""
    path = folder.path / "modules.json"
    if not path.is_file():
        return None, False
    modules = [(m["type"].rpartition(".")[2], m["path"]) for m in json.loads(path.read_text())]
    pooling = None
    for kind, place in modules[1:]:
        if kind == "Pooling":
            chosen = [k for k, on in folder.json(place, "config.json").items() if on is True]
            named = [_POOLINGS[k] for k in chosen if k in _POOLINGS]
            pooling = named[0] if len(named) == 1 else None
    return pooling, any(kind == "Normalize" for kind, _ in modules)
