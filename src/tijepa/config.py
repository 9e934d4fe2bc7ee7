"""The typed configuration of one run. Imports no torch.

A run configuration comes from a preset (a YAML file in `tijepa/presets`), a YAML file of the
user's, and overrides such as `optim.lr=3e-4`, later ones winning. It ends at `train/build.py`:
no module and no objective ever sees it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tijepa.errors import ConfigError

__all__ = ["RunConfig", "load_config", "preset_names"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _ordered(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} is [{bounds[0]}, {bounds[1]}]: the first must not exceed the second")


class DataConfig(Section):
    """Where pairs come from and how they become tensors."""

    source: str = "scenes"  # "scenes" (procedural, embedded) or a folder with captions.jsonl or CSV
    image_size: PositiveInt = 64  # side of the square crop, in pixels
    max_tokens: Annotated[int, Field(ge=2)] = 48  # longer captions are cut
    vocab_size: Annotated[int, Field(ge=64)] = 4096  # upper bound; the tokenizer may need fewer
    crop_scale: tuple[Fraction, Fraction] = (1.0, 1.0)  # area of the random resized crop
    flip: bool = False  # mirror at random; wrong where captions say left or right
    max_bad: Fraction = 0.01  # share of broken items above which a source is refused
    eval_items: PositiveInt = 500  # held-out images used for in-training retrieval
    threads: Annotated[int, Field(ge=0)] = 1  # decoding threads; 0 decodes in the training thread

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ordered("crop_scale", self.crop_scale)
        if self.crop_scale[0] <= 0:
            raise ValueError("crop_scale starts at 0: an empty crop shows nothing; use at least 0.05")
        return self


class ImageEncoderConfig(Section):
    """Vision transformer."""

    patch_size: PositiveInt = 16
    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    pool: Literal["mean", "class"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % (4 * self.heads) and self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not divisible by 4 (2-D sine-cosine positions)")
        return self


class TextEncoderConfig(Section):
    """Bidirectional text transformer."""

    width: PositiveInt = 128
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    pool: Literal["mean", "class"] = "mean"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd: sine-cosine positions need an even width")
        return self


class HeadConfig(Section):
    """MLP from the encoder's pooled token to the shared dimension; depth 0 is one linear map."""

    depth: Annotated[int, Field(ge=0)] = 1
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"


class PooledPredictorConfig(Section):
    """MLP from one modality's pooled embedding to the other's; depth 0 is one linear map."""

    depth: Annotated[int, Field(ge=0)] = 1
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"


class TokenPredictorConfig(Section):
    """Narrow transformer over context tokens and mask tokens."""

    width: PositiveInt = 64
    depth: PositiveInt = 2
    heads: PositiveInt = 2
    mlp_ratio: Positive = 4.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not divisible by 4 (2-D sine-cosine positions)")
        return self


class ModelConfig(Section):
    """Two encoders, two heads, the predictors."""

    embed_dim: PositiveInt = 64  # D, the shared dimension of the pooled embeddings
    image: ImageEncoderConfig = ImageEncoderConfig()
    text: TextEncoderConfig = TextEncoderConfig()
    head: HeadConfig = HeadConfig()
    pooled_predictor: PooledPredictorConfig = PooledPredictorConfig()
    token_predictor: TokenPredictorConfig = TokenPredictorConfig()


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


class MaskConfig(Section):
    """Blocks of patches (multi-block masking, I-JEPA) and spans of tokens."""

    target_blocks: PositiveInt = 4
    target_scale: tuple[Fraction, Fraction] = (0.15, 0.2)
    target_aspect: tuple[Positive, Positive] = (0.75, 1.5)
    context_scale: tuple[Fraction, Fraction] = (0.85, 1.0)
    text_hidden: Fraction = 0.4  # share of a caption's tokens that is hidden, in spans
    text_span: PositiveInt = 3  # mean length of a hidden span, in tokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("target_scale", "target_aspect", "context_scale"):
            _ordered(name, getattr(self, name))
        return self


class RegularizerConfig(Section):
    """Anti-collapse term on the pooled embeddings of one modality."""

    name: Literal["none", "sigreg", "vicreg"] = "sigreg"
    weight: NonNegative = 0.05
    slices: PositiveInt = 256  # random directions of SIGReg

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "none" and "weight" in self.model_fields_set and self.weight > 0:
            raise ValueError("weight has no effect while name is 'none': remove it or name a regularizer")
        if self.name != "sigreg" and "slices" in self.model_fields_set:
            raise ValueError(f"slices has no effect while name is '{self.name}': remove it")
        return self


class ObjectiveConfig(Section):
    """What is minimised."""

    name: Literal["tijepa", "clip", "siglip"] = "tijepa"
    tasks: TasksConfig = TasksConfig()
    energy: Literal["squared_l2", "smooth_l1", "cosine"] = "squared_l2"
    pooled_targets: Literal["ema", "stop_gradient"] = "stop_gradient"
    token_targets: Literal["ema", "stop_gradient"] = "ema"
    masks: MaskConfig = MaskConfig()
    regularize_image: RegularizerConfig = RegularizerConfig()
    regularize_text: RegularizerConfig = RegularizerConfig()


class OptimConfig(Section):
    """AdamW, its schedules and the EMA."""

    steps: PositiveInt = 1200
    batch_size: PositiveInt = 64  # pairs per optimizer step, all processes and micro-batches together
    accumulate: PositiveInt = 1  # micro-batches per step; the gradient stays that of the whole batch
    lr: Positive = 1e-3
    final_lr: NonNegative = 0.0  # as a share of lr
    warmup: Fraction = 0.1  # share of the steps
    weight_decay: tuple[NonNegative, NonNegative] = (0.04, 0.04)  # start, end of a cosine
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    clip_norm: Positive = 1.0
    ema_momentum: tuple[Fraction, Fraction] = (0.99, 1.0)  # start, end of a cosine

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}"
            )
        return self


class ComputeConfig(Section):
    """Device, precision and what trades time for memory."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0  # CPU threads of torch; 0 leaves torch's choice
    compile: bool = False
    gradient_checkpointing: bool = False


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
    compute: ComputeConfig = ComputeConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        size, patch = self.data.image_size, self.model.image.patch_size
        if size % patch:
            raise ValueError(
                f"data.image_size {size} is not divisible by model.image.patch_size {patch}"
            )
        return self

    def to_yaml(self) -> str:
        """The whole configuration as YAML that `load_config` reads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def preset_names() -> list[str]:
    """Names of the presets that come with the package, sorted."""
    files = resources.files("tijepa.presets").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_config(
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Iterable[str] = (),
) -> RunConfig:
    """Build the configuration: defaults, then the preset, then the file, then the overrides.

    `overrides` are `section.key=value` strings whose values are YAML. Raises `ConfigError` for an
    unknown preset, an unreadable file, an unknown key (naming the nearest one) or a bad value.
    """
    merged: dict[str, Any] = {}
    if preset is not None:
        _merge(merged, _read_preset(preset))
    if file is not None:
        _merge(merged, _read_file(Path(file)))
    for override in overrides:
        _merge(merged, _parse_override(override))
    return _validate(merged)


def _read_preset(name: str) -> dict[str, Any]:
    names = preset_names()
    if name not in names:
        raise ConfigError(f"preset '{name}' is unknown{_nearest(name, names)}; known: {', '.join(names)}")
    text = resources.files("tijepa.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text) or {}
    return loaded


def _read_file(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not valid YAML: {first}; mend that line") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds a {type(loaded).__name__}, not `section:` mappings")
    return loaded


def _parse_override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"override '{text}' is not of the form section.key=value, e.g. optim.lr=3e-4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"override '{text}': {value!r} is not a valid YAML value; quote it") from None
    nested: Any = _number(parsed)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result


def _number(value: Any) -> Any:
    """YAML 1.1 reads `3e-4` as a string; a person means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _merge(base: dict[str, Any], update: Mapping[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        elif isinstance(value, Mapping):
            base[key] = {}
            _merge(base[key], value)
        else:
            base[key] = value


def _validate(values: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    """One line for the first problem: the key, the value, the bound."""
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{key}'{_nearest(key, list(_all_keys(RunConfig)))}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if not close:  # the right leaf under a wrong section
        leaf = name.rsplit(".", 1)[-1]
        close = [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]
    return f"; did you mean '{close[0]}'?" if close else ""
