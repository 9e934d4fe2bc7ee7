"""Which settings the others make irrelevant.

A setting without effect is an error where somebody sets it: whoever writes it expects something
of it. `without_effect` is the one list of such rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tijepa.config.named import PREDICTIVE

__all__ = ["without_effect"]

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
    "optim.ema_momentum",
)
_ONLY_ACTING = ("patience", "lr_factor", "max_rollbacks")
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
            idle |= {f"{mlp}.hidden": reason, f"{mlp}.norm": reason}
    return idle


def _idle_of_prediction(value: Callable[[str], Any]) -> dict[str, str]:
    idle: dict[str, str] = {}
    tasks = "objective.tasks"
    pooled = any(value(key) != 0 for key in _POOLED_WEIGHTS)
    tokens = any(value(key) != 0 for key in _TOKEN_WEIGHTS)
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
        if not tokens:
            idle["objective.energy"] = f"{reason} and no token-level task has a weight"
    else:
        idle["model.pooled_predictor.memory"] = "model.pooled_predictor.kind is 'mlp'"
    if not tokens:
        reason = "no token-level task has a weight"
        idle |= {"model.token_predictor": reason, "objective.token_targets": reason}
    ema_pooled = pooled and value("objective.pooled_targets") == "ema"
    ema_tokens = tokens and value("objective.token_targets") == "ema"
    if not (ema_pooled or ema_tokens):
        idle["optim.ema_momentum"] = "no target of a weighted task is an EMA"
    if value(f"{tasks}.image_infill") == 0 and value(f"{tasks}.image_only") == 0:
        reason = "neither image_infill nor image_only has a weight"
        idle |= {f"objective.masks.{name}": reason for name in _BLOCK_MASKS}
    if value(f"{tasks}.text_infill") == 0 and value(f"{tasks}.text_only") == 0:
        reason = "neither text_infill nor text_only has a weight"
        idle |= {f"objective.masks.{name}": reason for name in ("text_hidden", "text_span")}
    for regularizer in ("objective.regularize_image", "objective.regularize_text"):
        name = value(f"{regularizer}.name")
        if name == "none":
            idle[f"{regularizer}.weight"] = f"{regularizer}.name is 'none'"
        if name not in ("sigreg", "visreg"):
            idle[f"{regularizer}.slices"] = f"{regularizer}.name is '{name}'"
    return idle
