"""From the configuration to objects. The configuration goes no further than this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from tijepa.config import (
    ImageEncoderConfig,
    ObjectiveConfig,
    RegularizerConfig,
    RunConfig,
    TextEncoderConfig,
    TIJEPAConfig,
)
from tijepa.config.objectives import CLOSED_FORM, PenaltyConfig, pooled_weights, token_weights
from tijepa.config.sections import EncoderConfig
from tijepa.errors import ConfigError
from tijepa.io.formatting import first_line
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import TASKS, Objective
from tijepa.objectives.distributed import Distributed, SingleProcess
from tijepa.objectives.energies import ByCovariance
from tijepa.objectives.masks import BlockMasks, SpanMasks
from tijepa.objectives.tijepa import TIJEPAObjective, WeightedRegularizer
from tijepa.registry import Section, entry, part
from tijepa.training.backbones import (
    Sources,
    image_arguments,
    load_backbones,
    lr_scales,
    open_sources,
    text_arguments,
)
from tijepa.training.optimizer import Schedule, build_optimizer
from tijepa.training.step import Compute


def model_arguments(config: RunConfig, vocab_size: int) -> dict[str, Any]:
    """The keyword arguments of `TextImageModel`, plain values that JSON can hold."""
    return _arguments(config, _towers(config, vocab_size, open_sources(config)))


@dataclass(frozen=True)
class _Towers:
    """Arguments of both encoders, and what the predictors must know of them.

    `grid` is the number of patches a side.
    """

    image: dict[str, Any]
    text: dict[str, Any]
    image_width: int
    text_width: int
    grid: int


def _towers(config: RunConfig, vocab_size: int, sources: Sources) -> _Towers:
    model, image, text = config.model, sources.image, sources.text
    image_shape: Any = image or model.image
    text_shape: Any = text or model.text
    of_image = {"image_size": config.data.image_size}
    of_text = {"vocab_size": vocab_size, "max_tokens": config.data.max_tokens}
    if model.image.encoder is not None:
        for_image = _registered(model.image.encoder, of_image)
        image_shape = _without_weights(for_image)
    elif image is not None:
        for_image = image_arguments(config, image)
    else:
        own = {"patch_size": model.image.patch_size, "stem": model.image.stem}
        for_image = {**of_image, **own, **_transformer(config, model.image)}
    if model.text.encoder is not None:
        for_text = _registered(model.text.encoder, of_text)
        text_shape = _without_weights(for_text)
    elif text is not None:
        for_text = text_arguments(config, text)
    else:
        for_text = {**of_text, **_transformer(config, model.text)}
    return _Towers(
        image=for_image,
        text=for_text,
        image_width=image_shape.width,
        text_width=text_shape.width,
        grid=_grid(config, sources),
    )


def _transformer(
    config: RunConfig, encoder: ImageEncoderConfig | TextEncoderConfig
) -> dict[str, Any]:
    """What the transformers of both our encoders are given."""
    return {
        "width": encoder.width,
        "depth": encoder.depth,
        "heads": encoder.heads,
        "mlp_ratio": encoder.mlp_ratio,
        "pooling": encoder.pool,
        "checkpointing": config.compute.gradient_checkpointing,
    }


def _registered(encoder: EncoderConfig, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {"encoder": encoder.name, **_own(encoder), **inputs}


def _without_weights(arguments: dict[str, Any]) -> Any:
    """A registered encoder that has shapes alone: its width, and the grid of an image encoder."""
    settings = {name: value for name, value in arguments.items() if name != "encoder"}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return part("encoder", arguments["encoder"])(**settings)


def _arguments(config: RunConfig, towers: _Towers) -> dict[str, Any]:
    model, objective = config.model, config.objective
    shared = {"checkpointing": config.compute.gradient_checkpointing}
    encoders = {
        "image": towers.image,
        "text": towers.text,
        "head": model.head.model_dump(),
        "embed_dim": model.embed_dim,
        "fusion": None,
    }
    pooled = {"kind": model.pooled_predictor.kind, **_own(model.pooled_predictor)}
    if not isinstance(objective, TIJEPAConfig):
        needs = entry("objective", objective.name).needs
        both = {"embed_dim": model.embed_dim, "pooled": pooled, "tokens": None}
        return {
            "encoders": encoders,
            "predictors": both if "predictors" in needs else None,
            "ema": "targets" in needs,
        }
    weights = token_weights(objective)
    predictor = {"grid": towers.grid, **model.token_predictor.model_dump(), **shared}
    tokens = fused = None
    if any(not TASKS[name].fused for name in weights):
        tokens = {
            "image_width": towers.image_width,
            "text_width": towers.text_width,
            "max_tokens": config.data.max_tokens,
            **predictor,
        }
    if any(TASKS[name].fused for name in weights):
        encoders["fusion"] = {**model.fusion.model_dump(), **shared}
        fused = {"image_width": model.fusion.width, **predictor}
    directions = list(pooled_weights(objective))
    predictors = {
        "embed_dim": model.embed_dim,
        "pooled": pooled,
        "tokens": tokens,
        "fused": fused,
        "target_norm": objective.pooled_target_norm,
    }
    if len(directions) == 1:  # the other one would stay as the seed made it
        predictors["directions"] = directions
    return {"encoders": encoders, "predictors": predictors, "ema": _uses_ema(objective)}


def _own(section: Section) -> dict[str, Any]:
    """The settings that a registered part brings: those beside its name and weight."""
    ours = {"name", "kind", "weight"}
    return {name: getattr(section, name) for name in type(section).model_fields if name not in ours}


def build_model(config: RunConfig, vocab_size: int) -> TextImageModel:
    """A fresh model: pretrained where it has backbones, else weights by the seed alone."""
    sources = open_sources(config)
    model = _model_of(_arguments(config, _towers(config, vocab_size, sources)), config.seed)
    load_backbones(model, config, sources)
    return model


def resumed_model(
    config: RunConfig, vocab_size: int, arguments: Mapping[str, Any]
) -> TextImageModel:
    """A model by the configuration whose backbones are those of `arguments`, a card's.

    Their weights come with a checkpoint, wherever the backbones were once.
    """
    image, text = config.model.image.backbone, config.model.text.backbone
    if image is None and text is None:
        return build_model(config, vocab_size)
    earlier = _model_of(arguments, config.seed)
    towers = _towers(config, vocab_size, Sources(None, None))
    if image is not None:
        part = earlier.context.image
        own = arguments["encoders"]["image"]
        towers = replace(towers, image=own, image_width=part.width, grid=part.grid)
    if text is not None:
        own = arguments["encoders"]["text"]
        towers = replace(towers, text=own, text_width=earlier.context.text.width)
    wanted = _arguments(config, towers)
    return earlier if wanted == arguments else _model_of(wanted, config.seed)


def _model_of(arguments: Mapping[str, Any], seed: int) -> TextImageModel:
    """A model of these arguments, all its weights a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextImageModel(**arguments)


def build_run_optimizer(
    config: RunConfig, model: TextImageModel, objective: Objective
) -> torch.optim.AdamW:
    """The optimizer of a run; backbones learn at a rate of their own."""
    return build_optimizer(
        [model, objective],
        lr=config.optim.lr,
        betas=config.optim.betas,
        scaled=lr_scales(config, model),
    )


def build_schedule(config: RunConfig) -> Schedule:
    """The schedules of learning rate, weight decay and EMA momentum."""
    optim = config.optim
    steps = 0 if config.objective.name == CLOSED_FORM else optim.steps
    return Schedule(
        steps=steps,
        lr=optim.lr,
        warmup=round(optim.warmup * steps),
        final_lr=optim.final_lr,
        weight_decay=optim.weight_decay,
        ema_momentum=optim.ema_momentum,
    )


def build_objective(
    config: RunConfig, processes: Distributed | None = None, *, grid: int | None = None
) -> Objective:
    """The objective by its name; `processes` are those that share every batch.

    `grid` is the number of patches a side of the image encoder, where it is known already.
    """
    objective = config.objective
    shared = processes or SingleProcess()
    if isinstance(objective, TIJEPAConfig):
        grid = grid or _grid(config, open_sources(config))
        return _predictive(config, objective, shared, grid)
    built: Objective = part("objective", objective.name)(processes=shared, **_own(objective))
    return built


def _grid(config: RunConfig, sources: Sources) -> int:
    size = config.data.image_size
    if config.model.image.encoder is not None:
        made = _without_weights(_registered(config.model.image.encoder, {"image_size": size}))
        return int(made.grid)
    if sources.image is not None:
        return sources.image.grid(size)
    return size // config.model.image.patch_size


def _predictive(
    config: RunConfig, objective: TIJEPAConfig, processes: Distributed, grid: int
) -> TIJEPAObjective:
    masks = objective.masks
    energy = part("energy", objective.energy.name)
    if entry("energy", objective.energy.name).config is not None:
        energy = energy(**_own(objective.energy))
    by_covariance = config.model.pooled_predictor.kind == "covariance"
    return TIJEPAObjective(
        pooled=pooled_weights(objective),
        tokens=token_weights(objective),
        energy=energy,
        pooled_energy=ByCovariance(processes) if by_covariance else None,
        ema_pooled=objective.pooled_targets == "ema",
        ema_tokens=objective.token_targets == "ema",
        block_masks=BlockMasks(
            grid=grid,
            blocks=masks.target_blocks,
            scale=masks.target_scale,
            aspect=masks.target_aspect,
            context_scale=masks.context_scale,
        ),
        span_masks=SpanMasks(hidden=masks.text_hidden, span=masks.text_span),
        regularize_image=_regularizer(objective.regularize_image, processes),
        regularize_text=_regularizer(objective.regularize_text, processes),
        processes=processes,
    )


def needs_text(objective: ObjectiveConfig) -> bool:
    """Whether any task reads or predicts text."""
    if not isinstance(objective, TIJEPAConfig) or pooled_weights(objective):
        return True
    return any(TASKS[name].needs_text for name in token_weights(objective))


def _uses_ema(objective: TIJEPAConfig) -> bool:
    pooled = objective.pooled_targets == "ema" and bool(pooled_weights(objective))
    used = [TASKS[name] for name in token_weights(objective)]
    tokens = objective.token_targets == "ema" and any(not task.fused for task in used)
    return pooled or tokens or any(task.fused for task in used)


def _regularizer(config: RegularizerConfig, processes: Distributed) -> WeightedRegularizer | None:
    if not isinstance(config, PenaltyConfig) or config.weight == 0:
        return None
    penalty = part("regularizer", config.name)(processes=processes, **_own(config))
    return WeightedRegularizer(penalty, config.weight)


def resolve_compute(config: RunConfig) -> Compute:
    """Choose the device, bf16 where it is the faster one, and towers at once where they can be.

    Towers run at once on a CPU with two or more threads; compiled modules are not run in threads.
    On a CPU bf16 pays only where the processor multiplies it natively and the matrices are wide
    enough (docs/log.md); everywhere else "auto" is float32, on CUDA it is bf16.
    """
    wanted = config.compute.device
    if wanted == "auto":
        mps = torch.backends.mps.is_available()
        wanted = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"compute.device is '{wanted}', which cannot be used here ({reason}); use auto or cpu"
        ) from None
    precision = config.compute.precision
    if precision == "auto":
        precision = "bfloat16" if _bf16_pays(config, device) else "float32"
    at_once = device.type == "cpu" and not config.compute.compile
    return Compute(
        device,
        torch.bfloat16 if precision == "bfloat16" else torch.float32,
        tower_threads=torch.get_num_threads() // 2 if at_once else 0,
    )


def _bf16_pays(config: RunConfig, device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    native = bool(torch.cpu._is_avx512_bf16_supported())
    towers = (config.model.image, config.model.text)
    return native and all(tower.backbone or tower.width >= 96 for tower in towers)


def parameter_counts(model: TextImageModel) -> dict[str, int]:
    """Trained parameters of each part; frozen ones and target encoders are not counted."""
    parts = {
        "image encoder": model.context.image,
        "text encoder": model.context.text,
        "image head": model.context.image_head,
        "text head": model.context.text_head,
        "fusion": model.context.fusion,
        "predictors": model.predictors,
    }
    return {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in parts.items()
        if part is not None
    }
