"""The pretrained encoders that a configuration names: what they expect, weights and features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from tijepa.config import ADOPTED, RunConfig
from tijepa.config.objectives import token_weights
from tijepa.data.batches.order import Order
from tijepa.data.features import Modality, SplitFeatures
from tijepa.data.pairs import PairSource, PairSplits
from tijepa.data.store.source import StoreSource
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.inference.feature_cache import FeatureCache, feature_keys, image_inputs, text_inputs
from tijepa.inference.frozen_encoders import FrozenEncoder, image_pieces, text_pieces
from tijepa.io.progress import Reporter
from tijepa.model.encoded import Encoded
from tijepa.model.pretrained.backbones import CHECKPOINTS, ImageBackbone, TextBackbone
from tijepa.model.pretrained.sources import (
    ImageSource,
    TextSource,
    open_image_source,
    open_text_source,
)
from tijepa.model.pretrained.weights import load_pretrained
from tijepa.model.text_image_model import Encoders, TextImageModel
from tijepa.objectives.base import TASKS
from tijepa.training.step import Compute


@dataclass(frozen=True)
class Sources:
    """The backbone of each modality; None where the encoder is our own."""

    image: ImageSource | None
    text: TextSource | None


def open_sources(config: RunConfig) -> Sources:
    """Find the backbones and read what they are, not their weights; `ConfigError` as they raise."""
    image, text = config.model.image, config.model.text
    return Sources(
        image=open_image_source(
            image.backbone,
            trust_remote_code=image.trust_remote_code,
            projected=image.pool == "projected",
        )
        if image.backbone is not None
        else None,
        text=open_text_source(
            text.backbone,
            trust_remote_code=text.trust_remote_code,
            projected=text.pool == "projected",
        )
        if text.backbone is not None
        else None,
    )


def adopted(config: RunConfig) -> RunConfig:
    """`config` with the image size, mean and std of its image backbone, unless they are given.

    Raises `ConfigError` where the backbones cannot be used, or not with the size or the length of
    texts that are given.
    """
    sources = open_sources(config)
    _check_checkpointing(config, sources)
    if sources.text is not None:
        longest = sources.text.max_tokens
        if longest is not None and config.data.max_tokens > longest:
            raise ConfigError(
                f"data.max_tokens is {config.data.max_tokens}, and the text backbone reads at most "
                f"{longest}: lower it"
            )
    if sources.image is None:
        return config
    given = config.data.model_fields_set
    update = {name: getattr(sources.image, name) for name in ADOPTED if name not in given}
    for name, value in update.items():
        if value is None:
            raise ConfigError(
                f"backbone '{sources.image.name}' does not say which {name} of the pixels it "
                f"expects (preprocessor_config.json): set data.{name}=[red, green, blue]"
            )
    data = config.data.model_copy(update=update)
    sources.image.grid(data.image_size)
    return config.model_copy(update={"data": data})


def _check_checkpointing(config: RunConfig, sources: Sources) -> None:
    """`ConfigError` where a network that is trained cannot do it; a frozen one keeps nothing."""
    if not config.compute.gradient_checkpointing:
        return
    own = sources.image is None or sources.image.net["kind"] in CHECKPOINTS
    for name, tower, can in (
        ("image", config.model.image, own),
        ("text", config.model.text, sources.text is None),
    ):
        if tower.backbone is not None and tower.train != "frozen" and not can:
            raise ConfigError(
                f"compute.gradient_checkpointing is true, and the backbone '{tower.backbone}' keeps"
                " the activations of all its layers, for only plain ViTs compute theirs again: set"
                f" it to false, or model.{name}.train=frozen"
            )


def image_arguments(config: RunConfig, source: ImageSource) -> dict[str, Any]:
    """The keyword arguments of `ImageBackbone`, plain values that JSON can hold."""
    image = config.model.image
    net = source.net
    if config.compute.gradient_checkpointing and image.train != "frozen":
        net = {**net, "config": {**net["config"], "checkpointing": True}}
    return {
        "net": net,
        "image_size": config.data.image_size,
        "pooling": image.pool,
        "views": image.views,
        "mode": image.train,
        "layers": image.last_k,
        "rank": image.lora_rank,
    }


def text_arguments(config: RunConfig, source: TextSource) -> dict[str, Any]:
    """The keyword arguments of `TextBackbone`, plain values that JSON can hold."""
    text = config.model.text
    own = text.pool == "own"
    if own and source.pooling is None:
        raise ConfigError(
            f"model.text.pool is 'own', and '{text.backbone}' does not say in modules.json whether "
            "to take the mean or the class token: use pool=mean or pool=class"
        )
    return {
        "net": source.net,
        "max_tokens": config.data.max_tokens,
        "pooling": source.pooling if own else text.pool,
        "normalise": own and source.normalise,
        "mode": text.train,
        "layers": text.last_k,
        "rank": text.lora_rank,
    }


def load_backbones(model: TextImageModel, config: RunConfig, sources: Sources) -> None:
    """Put the pretrained weights into a new model, and into its target encoders."""
    image, text = model.context.image, model.context.text
    if sources.image is not None:
        assert isinstance(image, ImageBackbone)
        weights = sources.image.weights(config.data.image_size)
        load_pretrained(image.net, weights, str(config.model.image.backbone))
    if sources.text is not None:
        assert isinstance(text, TextBackbone)
        load_pretrained(text.net, sources.text.weights(), str(config.model.text.backbone))
    model.update_targets(0.0)


def lr_scales(config: RunConfig, model: TextImageModel) -> list[tuple[nn.Module, float]]:
    """The backbones, each with the factor of its learning rate."""
    towers = ((model.context.image, config.model.image), (model.context.text, config.model.text))
    return [(part, tower.lr_scale) for part, tower in towers if tower.backbone is not None]


def tokenizer_of(config: RunConfig, source: PairSource, *, needs_text: bool) -> Tokenizer:
    """The tokenizer of the text backbone, or one learned from the captions of `source`."""
    backbone = open_sources(config).text
    if backbone is None:
        return learn_vocabulary(source, config.data.vocab_size, needs_text=needs_text)
    return Tokenizer.of_backbone(backbone.tokenizer, backbone.pad_id)


# The tokenizer of a run, learned from its training captions.


CAPTIONS = 100_000  # more change the vocabulary little and take minutes
_AT_ONCE = 1000  # items whose captions are read together


def learn_vocabulary(source: PairSource, vocab_size: int, *, needs_text: bool = True) -> Tokenizer:
    """Train a tokenizer on the captions of `source`, on 100,000 from all over it if it has more.

    A function of the source alone. Raises `DataError` where no caption holds a word though some
    task reads text.
    """
    return Tokenizer.train(islice(_captions(source), CAPTIONS), vocab_size, wordless=not needs_text)


def _captions(source: PairSource) -> Iterator[str]:
    order = Order(len(source), seed=0)
    count = min(len(source), CAPTIONS)
    for start in range(0, count, _AT_ONCE):
        indexes = order.at(start, min(_AT_ONCE, count - start)).tolist()
        for texts in source.texts(indexes):
            yield from texts


# Which frozen encoders need not run at every step, and the feature cache they fill.


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
