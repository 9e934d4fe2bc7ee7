"""Objectives that are fixed settings of one mechanism.

`ijepa` and `levljepa` run the code of `tijepa`, tasks, energy, targets and regularizers, with the
settings below and no others. Naming one gives them these values; a value that contradicts them is
an error, since the run would no longer be what its name says. What stands not here stays free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FIXED", "PREDICTIVE", "fixed_settings"]

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
