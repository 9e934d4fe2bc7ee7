"""Which frozen encoders of a run need not run at every step, and the feature cache they fill."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tijepa.config import RunConfig
from tijepa.config.objectives import token_weights
from tijepa.data.features import Modality, SplitFeatures
from tijepa.data.pairs import PairSource, PairSplits
from tijepa.data.store.source import StoreSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.inference.feature_cache import FeatureCache, feature_keys, image_inputs, text_inputs
from tijepa.inference.frozen_encoders import FrozenEncoder, image_pieces, text_pieces
from tijepa.io.progress import Reporter
from tijepa.model.encoded import Encoded
from tijepa.model.encoders import Encoders
from tijepa.objectives.tasks import TASKS
from tijepa.training.build import Compute


def cached_modalities(config: RunConfig, source: PairSource) -> dict[Modality, str | None]:
    """The modalities with a frozen backbone, each with the reason why it runs at every step.

    None where there is no such reason, and its features are made once.
    """
    data, model = config.data, config.model
    hidden = {
        TASKS[name].predicts: name for name in token_weights(config.objective) if TASKS[name].hides
    }
    found: dict[Modality, str | None] = {}
    modalities: tuple[Modality, ...] = ("image", "text")
    for modality in modalities:
        tower = getattr(model, modality)
        if tower.backbone is None or tower.train != "frozen":
            continue
        reason = None
        if not data.cache_features:
            reason = "data.cache_features is false"
        elif modality == "image" and (tuple(data.crop_scale) != (1.0, 1.0) or data.flip):
            reason = "data.crop_scale or data.flip makes every image a new one"
        elif modality in hidden:
            reason = f"objective.tasks.{hidden[modality]} hides another part of it each time"
        elif not isinstance(source, StoreSource):
            reason = "the data lie in no store"
        found[modality] = reason
    return found


def feature_cache_of(
    config: RunConfig,
    source: PairSource,
    encoders: Encoders,
    arguments: Mapping[str, Any],
    tokenizer: Tokenizer,
    compute: Compute,
    reporter: Reporter,
) -> FeatureCache | None:
    """The cache of a run's frozen encoders, built from `arguments`; None where it has none.

    Says which frozen encoder runs at every step, and why.
    """
    data = config.data
    tokens = bool(token_weights(config.objective))
    inputs = {
        "image": image_inputs(data.image_size, data.mean, data.std),
        "text": text_inputs(data.max_tokens, tokenizer),
    }
    keys: dict[Modality, list[str]] = {}
    frozen: dict[Modality, FrozenEncoder] = {}
    for modality, reason in cached_modalities(config, source).items():
        if reason is not None:
            reporter.say(f"features  the frozen {modality} encoder runs at every step: {reason}")
            continue
        part = encoders.image if modality == "image" else encoders.text
        making = [(compute.precision, tokens)]
        keys[modality] = feature_keys(part, arguments[modality], inputs[modality], making)
        encode = partial(_encode, part, compute)
        pieces = (
            partial(
                image_pieces,
                encode,
                data.image_size,
                data.mean,
                data.std,
                max(1, data.threads),
                tokens,
            )
            if modality == "image"
            else partial(text_pieces, encode, tokenizer, data.max_tokens, tokens)
        )
        frozen[modality] = FrozenEncoder(part.pooled_width, part.width if tokens else None, pieces)
    if not isinstance(source, StoreSource) or not keys:
        return None
    return FeatureCache(source.store, keys, frozen, reporter)


def split_features(cache: FeatureCache | None, splits: PairSplits, name: str) -> SplitFeatures:
    """The features of a split, made where they are not there; nothing without cache or split."""
    source = splits.splits.get(name)
    if cache is None or not isinstance(source, StoreSource):
        return SplitFeatures()
    return cache.split(name, source)


def _encode(encoder: nn.Module, compute: Compute, *inputs: Tensor) -> Encoded:
    """In the precision of training, without gradient."""
    with torch.no_grad(), compute.autocast():
        encoded: Encoded = encoder(*(x.to(compute.device) for x in inputs))
    return encoded
