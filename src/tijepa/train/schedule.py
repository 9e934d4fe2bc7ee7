"""Schedules: pure functions of the step."""

from __future__ import annotations

import math

__all__ = ["cosine", "warmup_cosine"]


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at step `steps` along half a cosine.

    end + (start − end) (1 + cos(π · step / steps)) / 2
    """
    progress = min(1.0, step / steps)
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def warmup_cosine(step: int, steps: int, warmup: int, peak: float, end: float) -> float:
    """Linear from peak / warmup at step 0 to `peak`, then a cosine to `end` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return cosine(step - warmup, max(1, steps - warmup), peak, end)
