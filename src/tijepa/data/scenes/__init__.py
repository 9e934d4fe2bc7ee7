"""Scenes: the embedded data set, rendered and worded on demand from (seed, split, index)."""

from __future__ import annotations

from tijepa.data.scenes.shapes import SHAPES
from tijepa.data.scenes.source import SPLIT_SIZES, Scenes, scenes_splits
from tijepa.data.scenes.wording import (
    exchange_hard_negative,
    invert_hard_negative,
    phrase,
    swap_hard_negative,
)
from tijepa.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    NOVEL_COMBINATIONS,
    PREDICATES,
    SIZES,
    Background,
    Relation,
    Scene,
    SceneObject,
    holds,
)

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "NOVEL_COMBINATIONS",
    "PREDICATES",
    "SHAPES",
    "SIZES",
    "SPLIT_SIZES",
    "Background",
    "Relation",
    "Scene",
    "SceneObject",
    "Scenes",
    "exchange_hard_negative",
    "holds",
    "invert_hard_negative",
    "phrase",
    "scenes_splits",
    "swap_hard_negative",
]
