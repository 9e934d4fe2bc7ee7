"""Which settings the others make irrelevant, across sections or by their values.

A setting without effect is an error where somebody sets it: whoever writes it expects something
of it. Settings of another choice than the one made need no rule: they are unknown keys of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tijepa.config.objectives import CLOSED_FORM, FIXED, REGULARIZER
from tijepa.registry import entries

PREDICTIVE = frozenset({"tijepa", *FIXED})  # objectives that predict, by the mechanism of tasks

_POOLED_WEIGHTS = ("objective.tasks.text_to_image.pooled", "objective.tasks.image_to_text.pooled")
_TOKEN_WEIGHTS = (
    "objective.tasks.text_to_image.tokens",
    "objective.tasks.image_to_text.tokens",
    "objective.tasks.image_infill",
    "objective.tasks.text_infill",
    "objective.tasks.image_only",
    "objective.tasks.text_only",
)
_TOKEN_TASKS = (*_TOKEN_WEIGHTS, "objective.tasks.fusion_infill")
_ONLY_PREDICTIVE = ("model.token_predictor", "model.fusion")
# of training by steps, and of images that are new at every step
_ONLY_STEPS = (
    *("optim", "guard", "log.every", "log.eval_every", "log.save_every", "log.keep_last"),
    *("data.crop_scale", "data.flip", "data.augment", "data.cache_features"),
)
_ONLY_ACTING = ("patience", "lr_factor", "max_rollbacks")
_OWN_ENCODER = {
    "image": ("patch_size", "stem", "width", "depth", "heads", "mlp_ratio"),
    "text": ("width", "depth", "heads", "mlp_ratio"),
}
_TUNING = ("train", "last_k", "lora_rank", "lr_scale", "trust_remote_code")
_BACKBONE = {"image": (*_TUNING, "views"), "text": _TUNING}
_HIDDEN_LAYERS = {
    "model.head": ("hidden", "norm", "skip"),
    "model.pooled_predictor": ("hidden", "norm"),
}
_BLOCK_TASKS = ("image_infill", "image_only", "fusion_infill")
_BLOCK_MASKS = ("target_blocks", "target_scale", "target_aspect", "context_scale")


def without_effect(value: Callable[[str], Any]) -> dict[str, str]:
    """Settings and whole sections without effect, each with the reason.

    `value` gives the value of a dotted key such as `objective.name`, None where there is none.
    """
    idle: dict[str, str] = {}
    if value("data.source") == "scenes":
        idle["data.max_bad"] = "data.source is 'scenes', which has no broken items"
    if tuple(value("data.crop_scale")) == (1.0, 1.0) and not value("data.flip"):
        idle["data.augment"] = "data.crop_scale is [1, 1] and data.flip is false"
    action = value("guard.action")
    if action != "rollback":
        keys = ("lr_factor", "max_rollbacks") if action == "stop" else _ONLY_ACTING
        idle |= {f"guard.{key}": f"guard.action is '{action}'" for key in keys}
    idle |= _idle_of_encoders(value)
    mlps = ["model.head"]
    objective = value("objective.name")
    if objective in PREDICTIVE:
        idle |= _idle_of_prediction(value)
        if objective == CLOSED_FORM:
            reason = f"objective.name is '{CLOSED_FORM}', solved from cached features without steps"
            idle |= dict.fromkeys(_ONLY_STEPS, reason)
    else:
        known = entries("objective").get(objective)
        needs = () if known is None else known.needs
        idle |= dict.fromkeys(_ONLY_PREDICTIVE, f"objective.name is '{objective}'")
        for need, section in (
            ("predictors", "model.pooled_predictor"),
            ("targets", "optim.ema_momentum"),
        ):
            if need not in needs:
                idle[section] = f"objective.name is '{objective}'"
    if value("model.pooled_predictor.kind") == "mlp" and "model.pooled_predictor" not in idle:
        mlps.append("model.pooled_predictor")
    for mlp in mlps:
        if value(f"{mlp}.depth") == 0:
            reason = f"{mlp}.depth is 0 (one linear map)"
            idle |= {f"{mlp}.{key}": reason for key in _HIDDEN_LAYERS[mlp]}
    return idle


def _idle_of_encoders(value: Callable[[str], Any]) -> dict[str, str]:
    idle: dict[str, str] = {}
    for modality, own in _OWN_ENCODER.items():
        encoder = f"model.{modality}"
        if value(f"{encoder}.encoder.name") is not None:
            reason = f"{encoder}.encoder has its own architecture"
            idle |= {f"{encoder}.{key}": reason for key in (*own, *_BACKBONE[modality], "pool")}
            idle[f"{encoder}.backbone"] = reason
            continue
        if value(f"{encoder}.backbone") is None:
            reason = f"{encoder}.backbone is not set"
            idle |= {f"{encoder}.{key}": reason for key in _BACKBONE[modality]}
            continue
        reason = f"{encoder}.backbone has its own architecture"
        idle |= {f"{encoder}.{key}": reason for key in own}
        train = value(f"{encoder}.train")
        reason = f"{encoder}.train is '{train}'"
        for key, mode in (("last_k", "last_k"), ("lora_rank", "lora")):
            if train != mode:
                idle[f"{encoder}.{key}"] = reason
        if train == "frozen":
            idle[f"{encoder}.lr_scale"] = reason
    frozen = [
        value(f"model.{m}.backbone") is not None and value(f"model.{m}.train") == "frozen"
        for m in _OWN_ENCODER
    ]
    hidden = value("objective.name") in PREDICTIVE and any(value(key) for key in _TOKEN_TASKS)
    if all(frozen) and not hidden:
        idle["compute.gradient_checkpointing"] = (
            "both encoders are frozen backbones, and no token-level task has a weight"
        )
    if not any(frozen):
        idle["data.cache_features"] = "no encoder is a frozen backbone"
    if value("model.text.backbone") is not None:
        idle["data.vocab_size"] = "model.text.backbone has its own tokenizer"
    return idle


def _idle_of_prediction(value: Callable[[str], Any]) -> dict[str, str]:
    idle: dict[str, str] = {}
    tasks = "objective.tasks"
    pooled = any(value(key) != 0 for key in _POOLED_WEIGHTS)
    plain = any(value(key) != 0 for key in _TOKEN_WEIGHTS)
    fused = value(f"{tasks}.fusion_infill") != 0
    if not pooled:
        reason = "no pooled task has a weight"
        idle |= {
            "model.pooled_predictor": reason,
            "objective.pooled_targets": reason,
            "objective.pooled_target_norm": reason,
        }
    if value("model.pooled_predictor.kind") == "covariance":
        reason = "model.pooled_predictor.kind is 'covariance'"
        if not (plain or fused):
            idle["objective.energy"] = f"{reason} and no token-level task has a weight"
    if not fused:
        idle["model.fusion"] = "fusion_infill has no weight"
    if not (plain or fused):
        idle["model.token_predictor"] = "no token-level task has a weight"
    if not plain:
        reason = "no token-level task has a weight"
        if fused:
            reason = "only fusion_infill has a weight, whose target is always an EMA"
        idle["objective.token_targets"] = reason
    ema_pooled = pooled and value("objective.pooled_targets") == "ema"
    ema_tokens = fused or (plain and value("objective.token_targets") == "ema")
    if not (ema_pooled or ema_tokens):
        idle["optim.ema_momentum"] = "no target of a weighted task is an EMA"
    if not any(value(f"{tasks}.{name}") for name in _BLOCK_TASKS):
        reason = "none of image_infill, image_only and fusion_infill has a weight"
        idle |= {f"objective.masks.{name}": reason for name in _BLOCK_MASKS}
    if value(f"{tasks}.text_infill") == 0 and value(f"{tasks}.text_only") == 0:
        reason = "neither text_infill nor text_only has a weight"
        idle |= {f"objective.masks.{name}": reason for name in ("text_hidden", "text_span")}
    for regularizer in ("objective.regularize_image", "objective.regularize_text"):
        if value(f"{regularizer}.weight") == 0:
            reason = f"{regularizer}.weight is 0"
            fields = {name for one in REGULARIZER.members().values() for name in one.model_fields}
            idle |= {f"{regularizer}.{key}": reason for key in fields - {"name", "weight"}}
    return idle
