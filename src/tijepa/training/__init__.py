"""Training: build, one step, the loop, checkpoints, callbacks."""

from __future__ import annotations

from tijepa.training.callbacks import Callback
from tijepa.training.dry_run import DryRun, dry_run
from tijepa.training.evaluation import Evaluated, HeldOut
from tijepa.training.loop import Trainer
from tijepa.training.optimizer import Schedule
from tijepa.training.run import train

__all__ = ["Callback", "DryRun", "Evaluated", "HeldOut", "Schedule", "Trainer", "dry_run", "train"]
