"""Which settings the others make irrelevant, across sections or by their values.

A setting without effect is an error where somebody sets it: whoever writes it expects something
of it. Settings of another choice than the one made need no rule: they are unknown keys of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tijepa.config.objectives import CLOSED_FORM, FIXED, REGULARIZER, TasksConfig
from tijepa.config.yaml_io import leaves
from tijepa.registry import entries

PREDICTIVE = frozenset({"tijepa", *FIXED})  # objectives that predict, by the mechanism of tasks

Value = Callable[[str], Any]
Rule = tuple[bool, str, Iterable[str]]  # whether it holds, why, the settings without effect then

_WEIGHTS = [key for key, _ in leaves(TasksConfig().model_dump(), "objective.tasks.")]
_POOLED = [key for key in _WEIGHTS if key.endswith(".pooled")]
_FUSED = "objective.tasks.fusion_infill"
_PLAIN = [key for key in _WEIGHTS if key not in (*_POOLED, _FUSED)]
_ARCHITECTURE = ("width", "depth", "heads", "mlp_ratio")
# of training by steps, and of images that are new at every step
_ONLY_STEPS = (
    *("optim", "guard", "log.every", "log.eval_every", "log.save_every", "log.keep_last"),
    *("data.crop_scale", "data.flip", "data.augment", "data.cache_features"),
)
_TUNING = ("train", "last_k", "lora_rank", "lr_scale", "trust_remote_code")
_OF_ENCODER = {  # what our own encoder has, what a pretrained one has
    "image": (("patch_size", "stem", *_ARCHITECTURE), (*_TUNING, "views")),
    "text": (_ARCHITECTURE, _TUNING),
}
_HIDDEN_LAYERS = {
    "model.head": ("hidden", "norm", "skip"),
    "model.pooled_predictor": ("hidden", "norm"),
}
_BLOCK_MASKS = ("target_blocks", "target_scale", "target_aspect", "context_scale")
_NO_TOKENS = "no token-level task has a weight"


def without_effect(value: Value) -> dict[str, str]:
    """Settings and whole sections without effect, each with the reason.

    `value` gives the value of a dotted key such as `objective.name`, None where there is none.
    """
    idle: dict[str, str] = {}
    for rules in (_of_data_and_guard, _of_encoders, _of_objective, _of_heads):
        for holds, reason, settings in rules(value):
            if holds:
                idle = dict.fromkeys(settings, reason) | idle  # the first reason stays
    return idle


def _below(section: str, names: Iterable[str]) -> list[str]:
    return [f"{section}.{name}" for name in names]


def _of_data_and_guard(value: Value) -> Iterator[Rule]:
    scenes = value("data.source") == "scenes"
    yield scenes, "data.source is 'scenes', which has no broken items", ["data.max_bad"]
    whole = tuple(value("data.crop_scale")) == (1.0, 1.0) and not value("data.flip")
    yield whole, "data.crop_scale is [1, 1] and data.flip is false", ["data.augment"]
    action = value("guard.action")
    reason = f"guard.action is '{action}'"
    yield action == "warn", reason, ["guard.patience"]
    yield action != "rollback", reason, ["guard.lr_factor", "guard.max_rollbacks"]


def _of_encoders(value: Value) -> Iterator[Rule]:
    frozen = []
    for modality, (own, pretrained) in _OF_ENCODER.items():
        encoder = f"model.{modality}"
        backbone, train = value(f"{encoder}.backbone"), value(f"{encoder}.train")
        frozen.append(backbone is not None and train == "frozen")
        registered = value(f"{encoder}.encoder.name") is not None
        settings = _below(encoder, (*own, *pretrained, "pool", "backbone"))
        yield registered, f"{encoder}.encoder has its own architecture", settings
        yield backbone is None, f"{encoder}.backbone is not set", _below(encoder, pretrained)
        reason = f"{encoder}.backbone has its own architecture"
        yield backbone is not None, reason, _below(encoder, own)
        reason = f"{encoder}.train is '{train}'"
        yield train != "last_k", reason, [f"{encoder}.last_k"]
        yield train != "lora", reason, [f"{encoder}.lora_rank"]
        yield train == "frozen", reason, [f"{encoder}.lr_scale"]
    tasks = value("objective.name") in PREDICTIVE and any(map(value, (*_PLAIN, _FUSED)))
    reason = f"both encoders are frozen backbones, and {_NO_TOKENS}"
    yield all(frozen) and not tasks, reason, ["compute.gradient_checkpointing"]
    yield not any(frozen), "no encoder is a frozen backbone", ["data.cache_features"]
    given = value("model.text.backbone") is not None
    yield given, "model.text.backbone has its own tokenizer", ["data.vocab_size"]


def _of_objective(value: Value) -> Iterator[Rule]:
    name = value("objective.name")
    if name in PREDICTIVE:
        yield from _of_prediction(value)
        reason = f"objective.name is '{CLOSED_FORM}', solved from cached features without steps"
        yield name == CLOSED_FORM, reason, _ONLY_STEPS
        return
    known, reason = entries("objective").get(name), f"objective.name is '{name}'"
    needs = () if known is None else known.needs
    yield True, reason, ["model.token_predictor", "model.fusion"]
    yield "predictors" not in needs, reason, ["model.pooled_predictor"]
    yield "targets" not in needs, reason, ["optim.ema_momentum"]


def _of_prediction(value: Value) -> Iterator[Rule]:
    pooled, plain = any(map(value, _POOLED)), any(map(value, _PLAIN))
    fused = bool(value(_FUSED))
    targets = ["objective.pooled_targets", "objective.pooled_target_norm"]
    yield not pooled, "no pooled task has a weight", ["model.pooled_predictor", *targets]
    covariance = value("model.pooled_predictor.kind") == "covariance"
    reason = f"model.pooled_predictor.kind is 'covariance' and {_NO_TOKENS}"
    yield covariance and not (plain or fused), reason, ["objective.energy"]
    yield not fused, "fusion_infill has no weight", ["model.fusion"]
    yield not (plain or fused), _NO_TOKENS, ["model.token_predictor"]
    reason = "only fusion_infill has a weight, whose target is always an EMA"
    yield not plain, reason if fused else _NO_TOKENS, ["objective.token_targets"]
    ema = fused or (pooled and value("objective.pooled_targets") == "ema")
    ema = ema or (plain and value("objective.token_targets") == "ema")
    yield not ema, "no target of a weighted task is an EMA", ["optim.ema_momentum"]
    tasks = ("image_infill", "image_only", "fusion_infill")
    reason = "none of image_infill, image_only and fusion_infill has a weight"
    blocks = any(map(value, _below("objective.tasks", tasks)))
    yield not blocks, reason, _below("objective.masks", _BLOCK_MASKS)
    spans = any(map(value, _below("objective.tasks", ("text_infill", "text_only"))))
    reason = "neither text_infill nor text_only has a weight"
    yield not spans, reason, _below("objective.masks", ("text_hidden", "text_span"))
    settings = {name for one in REGULARIZER.members().values() for name in one.model_fields}
    for regularizer in ("objective.regularize_image", "objective.regularize_text"):
        idle = value(f"{regularizer}.weight") == 0
        others = _below(regularizer, settings - {"name", "weight"})
        yield idle, f"{regularizer}.weight is 0", others


def _of_heads(value: Value) -> Iterator[Rule]:
    for mlp, names in _HIDDEN_LAYERS.items():
        yield value(f"{mlp}.depth") == 0, f"{mlp}.depth is 0 (one linear map)", _below(mlp, names)
