"""What is wrong with a source, what is worth knowing about it, and what to run next."""

from __future__ import annotations

from tijepa.data.validation.diagnosis import Diagnosis, diagnose
from tijepa.data.validation.report import Report, train_command

__all__ = ["Diagnosis", "Report", "diagnose", "train_command"]
