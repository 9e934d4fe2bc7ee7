"""The JSON file of a benchmark: where, when, how and with what it was measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy
import torch

import tijepa
from tijepa.training.run import processor

RESULTS = Path(__file__).parents[1] / "results"


def write_record(name: str, payload: dict[str, Any], out: Path | None = None) -> Path:
    """Write `benchmarks/results/NAME.json` (or `out`) and return its path."""
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "processor": processor(),
            "cpus": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "platform": platform.system(),
        },
        "versions": {
            "tijepa": tijepa.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        **payload,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path
