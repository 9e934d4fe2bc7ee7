"""Training: build, one step, the loop, checkpoints."""

from __future__ import annotations

from tijepa.train.plan import Plan, plan
from tijepa.train.run import train

__all__ = ["Plan", "plan", "train"]
