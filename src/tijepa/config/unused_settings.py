"""Which settings the others make irrelevant.

A setting without effect is an error where somebody sets it: whoever writes it expects something
of it. `without_effect` is the one list of such rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FIXED", "PREDICTIVE", "fixed_settings", "without_effect"]

_POOLED_WEIGHTS = (
    "objective.tasks.text_to_image.pooled",
    "objective.tasks.image_to_text.pooled",
)
_TOKEN_WEIGHTS = (
    "objective.tasks.text_to_image.tokens",
    "objective.tasks.image_to_text.tokens",
    "objective.tasks.image_infill",
    "objective.tasks.text_infill",
    "objective.tasks.image_only",
    "objective.tasks.text_only",
)
_TOKEN_TASKS = (*_TOKEN_WEIGHTS, "objective.tasks.fusion_infill")
_ONLY_PREDICTIVE = (
    "objective.tasks",
    "objective.energy",
    "objective.pooled_targets",
    "objective.pooled_target_norm",
    "objective.token_targets",
    "objective.masks",
    "objective.regularize_image",
    "objective.regularize_text",
    "model.pooled_predictor",
    "model.token_predictor",
    "model.fusion",
    "optim.ema_momentum",
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
_OF_REGULARIZERS = ("slices", "by_batch", "variance")
_BLOCK_TASKS = ("image_infill", "image_only", "fusion_infill")
_BLOCK_MASKS = ("target_blocks", "target_scale", "target_aspect", "context_scale")


def without_effect(value: Callable[[str], Any]) -> dict[str, str]:
    """Settings and whole sections without effect, each with the reason.

    `value` gives the value of a dotted key such as `objective.name`.
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
        if value("model.pooled_predictor.kind") == "mlp":
            mlps.append("model.pooled_predictor")
        idle |= _idle_of_prediction(value)
    else:
        idle |= dict.fromkeys(_ONLY_PREDICTIVE, f"objective.name is '{objective}'")
    for mlp in mlps:
        if value(f"{mlp}.depth") == 0:
            reason = f"{mlp}.depth is 0 (one linear map)"
            idle |= {f"{mlp}.{key}": reason for key in _HIDDEN_LAYERS[mlp]}
    return idle


def _idle_of_encoders(value: Callable[[str], Any]) -> dict[str, str]:
    idle: dict[str, str] = {}
    for modality, own in _OWN_ENCODER.items():
        encoder = f"model.{modality}"
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
        idle |= {f"model.pooled_predictor.{name}": reason for name in ("depth", "hidden", "norm")}
        if not (plain or fused):
            idle["objective.energy"] = f"{reason} and no token-level task has a weight"
    else:
        idle["model.pooled_predictor.memory"] = "model.pooled_predictor.kind is 'mlp'"
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
        name = value(f"{regularizer}.name")
        if name == "none":
            idle[f"{regularizer}.weight"] = f"{regularizer}.name is 'none'"
        elif value(f"{regularizer}.weight") == 0:
            reason = f"{regularizer}.weight is 0"
            idle |= {f"{regularizer}.{key}": reason for key in _OF_REGULARIZERS}
            continue
        if name not in ("sigreg", "visreg"):
            idle[f"{regularizer}.slices"] = f"{regularizer}.name is '{name}'"
        if name != "sigreg":
            for setting in ("by_batch", "variance"):
                idle[f"{regularizer}.{setting}"] = f"{regularizer}.name is '{name}'"
    return idle


# Objectives that are fixed settings of one mechanism.
#
# `ijepa` and `levljepa` run the code of `tijepa`, tasks, energy, targets and regularizers, with the
# settings below and no others. Naming one gives them these values; a value that contradicts them is
# an error, since the run would no longer be what its name says. What stands not here stays free.


FIXED: dict[str, dict[str, Any]] = {
    # I-JEPA, arXiv 2301.08243: blocks of patches from a context block, EMA targets, no regularizer
    "ijepa": {
        "objective.tasks.text_to_image.pooled": 0.0,
        "objective.tasks.text_to_image.tokens": 0.0,
        "objective.tasks.image_to_text.pooled": 0.0,
        "objective.tasks.image_to_text.tokens": 0.0,
        "objective.tasks.image_infill": 0.0,
        "objective.tasks.text_infill": 0.0,
        "objective.tasks.image_only": 1.0,
        "objective.tasks.text_only": 0.0,
        "objective.tasks.fusion_infill": 0.0,
        "objective.token_targets": "ema",
        "objective.regularize_image.name": "none",
        "objective.regularize_text.name": "none",
    },
    # LeVLJEPA, arXiv 2607.00784: pooled embeddings, each predicted from the other's, SIGReg on both
    "levljepa": {
        "objective.tasks.text_to_image.pooled": 1.0,
        "objective.tasks.text_to_image.tokens": 0.0,
        "objective.tasks.image_to_text.pooled": 1.0,
        "objective.tasks.image_to_text.tokens": 0.0,
        "objective.tasks.image_infill": 0.0,
        "objective.tasks.text_infill": 0.0,
        "objective.tasks.image_only": 0.0,
        "objective.tasks.text_only": 0.0,
        "objective.tasks.fusion_infill": 0.0,
        "objective.energy": "squared_l2",
        "objective.pooled_targets": "stop_gradient",
        "objective.pooled_target_norm": "none",
        "objective.regularize_image.name": "sigreg",
        "objective.regularize_image.weight": 0.02,
        "objective.regularize_image.by_batch": True,
        "objective.regularize_image.variance": 0.0,
        "objective.regularize_text.name": "sigreg",
        "objective.regularize_text.weight": 0.02,
        "objective.regularize_text.by_batch": True,
        "objective.regularize_text.variance": 0.0,
        "model.head.depth": 1,
        "model.head.hidden": 2048,
        "model.head.norm": "batch",
        "model.pooled_predictor.kind": "mlp",
        "model.pooled_predictor.depth": 4,
        "model.pooled_predictor.hidden": 2048,
        "model.pooled_predictor.norm": "batch",
    },
}
PREDICTIVE = frozenset({"tijepa", *FIXED})  # objectives that predict, by the mechanism of tasks


def fixed_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the objective named in `values` (dotted keys) fixes; nothing for most of them."""
    name = values.get("objective.name")
    return FIXED.get(name, {}) if isinstance(name, str) else {}
