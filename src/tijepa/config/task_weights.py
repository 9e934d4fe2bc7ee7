"""The weights of an objective's energies: which of them it trains at all."""

from __future__ import annotations

from tijepa.config.sections import ObjectiveConfig
from tijepa.config.unused_settings import PREDICTIVE

__all__ = ["energy_names", "pooled_weights", "token_weights"]


def pooled_weights(objective: ObjectiveConfig) -> dict[str, float]:
    """Weights of the pooled energies that are not 0, by task."""
    tasks = objective.tasks
    weights = {
        "text_to_image": tasks.text_to_image.pooled,
        "image_to_text": tasks.image_to_text.pooled,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def token_weights(objective: ObjectiveConfig) -> dict[str, float]:
    """Weights of the token-level energies that are not 0, by task."""
    tasks = objective.tasks
    weights = {
        "text_to_image": tasks.text_to_image.tokens,
        "image_to_text": tasks.image_to_text.tokens,
        "image_infill": tasks.image_infill,
        "text_infill": tasks.text_infill,
        "image_only": tasks.image_only,
        "text_only": tasks.text_only,
        "fusion_infill": tasks.fusion_infill,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def energy_names(objective: ObjectiveConfig) -> tuple[str, ...]:
    """The energies as `TASK/pooled` and `TASK/tokens`; none where the objective has no tasks."""
    if objective.name not in PREDICTIVE:
        return ()
    pooled = (f"{task}/pooled" for task in pooled_weights(objective))
    tokens = (f"{task}/tokens" for task in token_weights(objective))
    return (*pooled, *tokens)
