"""The settings of data, model, optimization, guard, machine and log: type, bounds, default."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tijepa.config.choices import OneOf
from tijepa.registry import (
    BelowOne,
    Fraction,
    InnerFraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Section,
)


def ordered(name: str, bounds: tuple[float, float]) -> None:
    """Raise `ValueError` unless the bounds of setting `name` ascend."""
    if bounds[0] > bounds[1]:
        raise ValueError(
            f"{name} is [{bounds[0]}, {bounds[1]}]: the first must not exceed the second"
        )


def _fits_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not divisible by heads {heads}")


def _fits_2d(width: int, heads: int) -> None:
    _fits_heads(width, heads)
    if width % 4:
        raise ValueError(f"width {width} is not divisible by 4 (2-D sine-cosine positions)")


ADOPTED = ("image_size", "mean", "std")  # of data: an image backbone's own, unless given


class DataConfig(Section):
    """Where pairs come from and how they become tensors."""

    source: str = "scenes"  # "scenes" (procedural), a store, or what `tijepa prepare` reads
    image_size: PositiveInt = 64  # side of the square crop, in pixels
    max_tokens: Annotated[int, Field(ge=2)] = 48  # longer captions are cut
    vocab_size: Annotated[int, Field(ge=64)] = 4096  # upper bound; the tokenizer may need fewer
    crop_scale: tuple[Fraction, Fraction] = (1.0, 1.0)  # area of the random resized crop
    flip: bool = False  # mirror at random; wrong where captions say left or right
    augment: Literal["host", "device"] = "host"  # where images are cropped and mirrored
    mean: tuple[Fraction, Fraction, Fraction] = (0.5, 0.5, 0.5)  # of red, green, blue in [0, 1]
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)  # pixels become (value - mean) / std
    max_bad: Fraction = 0.01  # share of broken items above which a source is refused
    eval_items: PositiveInt = 500  # validation images of the retrieval measured while training
    test_items: PositiveInt = 5000  # test images of the final retrieval, at most
    eval_captions: NonNegativeInt = 0  # captions of each image in both; 0 takes all
    cache_features: bool = True  # run frozen backbones once and keep what they give
    threads: NonNegativeInt = 1  # decoding threads; 0 decodes in the training thread

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        ordered("crop_scale", self.crop_scale)
        if self.crop_scale[0] <= 0:
            raise ValueError(
                "crop_scale starts at 0: an empty crop shows nothing; use at least 0.05"
            )
        return self


class EncoderConfig(Section):
    """An encoder of one's own: registered, and chosen by name; it brings its settings."""

    name: str


_ENCODER = OneOf("encoder", EncoderConfig, None)


class _EncoderChoice(Section):
    """What both encoders have: whose network it is, and what of a pretrained one is trained."""

    encoder: Annotated[EncoderConfig | None, _ENCODER] = None  # registered, e.g. by a plug-in
    backbone: str | None = None  # pretrained: folder or hub name; its own architecture and inputs
    train: Literal["frozen", "last_k", "lora", "full"] = "frozen"  # what of the backbone
    last_k: PositiveInt = 2  # layers, counted from the last one
    lora_rank: PositiveInt = 8
    lr_scale: Positive = 1.0  # the backbone's learning rate, as a share of optim.lr
    trust_remote_code: bool = False  # run code that comes with the backbone
    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0


class ImageEncoderConfig(_EncoderChoice):
    """Vision transformer of our own, or a pretrained one where `backbone` names it."""

    # corners: the pooled token is the mean over the whole image and its four corner crops
    views: Literal["whole", "corners"] = "whole"
    patch_size: PositiveInt = 16
    stem: Literal["conv", "linear"] = "conv"  # pixels to patch tokens: convolutions, or one map
    # class_mean: class token and mean of patches; grid: both and the means of the four quarters;
    # projected: what a text-image model compares with texts
    pool: Literal["mean", "class", "class_mean", "grid", "projected"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> ImageEncoderConfig:
        if self.backbone is None and self.pool in ("class_mean", "grid", "projected"):
            raise ValueError(f"pool '{self.pool}' needs a backbone: use mean or class")
        _fits_2d(self.width, self.heads)
        if self.stem == "conv" and self.patch_size.bit_count() != 1:
            raise ValueError(
                f"patch_size {self.patch_size} is not a power of two, as stem 'conv' needs: choose "
                "another, or stem=linear"
            )
        return self


class TextEncoderConfig(_EncoderChoice):
    """Bidirectional text transformer of our own, or a pretrained one where `backbone` names it."""

    # own: what a sentence-transformers folder says; layers: means of word embeddings and the last
    # two layers; projected: what a text-image model compares with images
    pool: Literal["mean", "class", "own", "layers", "projected"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> TextEncoderConfig:
        if self.backbone is None and self.pool in ("own", "layers", "projected"):
            raise ValueError(f"pool '{self.pool}' needs a backbone: use mean or class")
        _fits_heads(self.width, self.heads)
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd: sine-cosine positions need an even width")
        return self


class HeadConfig(Section):
    """MLP from the encoder's pooled token to the shared dimension; depth 0 is one linear map."""

    depth: NonNegativeInt = 1
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"
    skip: bool = False  # a linear map beside the hidden layers, which start by adding nothing to it


class PooledPredictorConfig(Section):
    """From one modality's pooled embedding to the other's; each `kind` has settings of its own."""

    kind: str


class TokenPredictorConfig(Section):
    """Narrow transformer over context tokens and mask tokens."""

    width: PositiveInt = 64
    depth: PositiveInt = 2
    heads: PositiveInt = 2
    mlp_ratio: Positive = 4.0

    @model_validator(mode="after")
    def _check(self) -> TokenPredictorConfig:
        _fits_2d(self.width, self.heads)
        return self


class FusionConfig(Section):
    """Text-to-image cross-attention: image tokens that read the text (task fusion_infill)."""

    width: PositiveInt = 128
    depth: PositiveInt = 2
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0

    @model_validator(mode="after")
    def _check(self) -> FusionConfig:
        _fits_heads(self.width, self.heads)
        return self


PREDICTOR = OneOf("predictor", PooledPredictorConfig, "mlp", tag="kind")


class ModelConfig(Section):
    """Two encoders, two heads, the predictors, the fusion.

    `model.backbone` in a file, preset or override is short for one text-image model (CLIP, SigLIP)
    as both backbones, its projections as their pooled tokens.
    """

    embed_dim: PositiveInt = 64  # D, the shared dimension of the pooled embeddings
    image: ImageEncoderConfig = ImageEncoderConfig()
    text: TextEncoderConfig = TextEncoderConfig()
    head: HeadConfig = HeadConfig()
    pooled_predictor: Annotated[PooledPredictorConfig, PREDICTOR] = PREDICTOR.make()
    token_predictor: TokenPredictorConfig = TokenPredictorConfig()
    fusion: FusionConfig = FusionConfig()


class OptimConfig(Section):
    """AdamW, its schedules and the EMA."""

    steps: PositiveInt = 1200
    batch_size: Annotated[int, Field(ge=2)] = (
        64  # pairs per optimizer step, all processes and micro-batches together
    )
    accumulate: PositiveInt = (
        1  # micro-batches per step; the gradient stays that of the whole batch
    )
    lr: Positive = 1e-3
    final_lr: NonNegative = 0.0  # as a share of lr
    warmup: Fraction = 0.1  # share of the steps
    weight_decay: tuple[NonNegative, NonNegative] = (0.04, 0.04)  # start, end of a cosine
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.95)
    clip_norm: Positive = 1.0
    ema_momentum: tuple[Fraction, Fraction] = (0.99, 1.0)  # start, end of a cosine

    @model_validator(mode="after")
    def _check(self) -> OptimConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}"
            )
        return self


class GuardConfig(Section):
    """What is done about collapse; the guard judges every evaluation on held-out pairs."""

    action: Literal["warn", "stop", "rollback"] = "warn"
    patience: PositiveInt = 2  # collapsed evaluations in a row before it stops or rolls back
    lr_factor: InnerFraction = 0.5  # each rollback multiplies the learning rate by this
    max_rollbacks: PositiveInt = 2  # the collapse after these stops the run


class ComputeConfig(Section):
    """Device, precision and what trades time for memory."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: NonNegativeInt = 0  # CPU threads of torch; 0 leaves torch's choice
    compile: bool = False
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> ComputeConfig:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(
                f"device '{self.device}' is unknown; use auto, cpu, cuda, cuda:N (a number) or mps"
            )
        return self


class LogConfig(Section):
    """What is written while training, and how often (in steps)."""

    every: PositiveInt = 20
    eval_every: PositiveInt = 300
    save_every: PositiveInt = 300
    keep_last: PositiveInt = 2
    tensorboard: bool = True
    wandb: bool = False
    loggers: tuple[str, ...] = ()  # further ones by name, such as mlflow
