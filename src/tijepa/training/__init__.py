"""Training: build, one step, the loop, checkpoints, callbacks."""

from __future__ import annotations

from tijepa.training.dry_run import DryRun, dry_run
from tijepa.training.run import train

__all__ = ["DryRun", "dry_run", "train"]
