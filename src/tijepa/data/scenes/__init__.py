"""Scenes: the embedded data set, rendered and worded on demand from (seed, split, index)."""

from __future__ import annotations

from tijepa.data.scenes.source import SPLIT_SIZES, Scenes, scenes_splits
from tijepa.data.scenes.world import Scene

__all__ = ["SPLIT_SIZES", "Scene", "Scenes", "scenes_splits"]
