"""What is wrong with a source, what is worth knowing about it, and what to run next."""

from __future__ import annotations

from tijepa.data.doctor.diagnosis import Diagnosis
from tijepa.data.doctor.report import Report, train_command
from tijepa.data.doctor.run import diagnose
from tijepa.data.doctor.terminal import print_report

__all__ = ["Diagnosis", "Report", "diagnose", "print_report", "train_command"]
