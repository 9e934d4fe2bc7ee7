"""Where and with what a run was made: the content of `environment.json`."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tijepa.config import RunConfig
from tijepa.data.pairs import PairSplits
from tijepa.data.tokenizer import Tokenizer
from tijepa.version import __version__


def environment_of(
    config: RunConfig, splits: PairSplits, tokenizer: Tokenizer, parameters: Mapping[str, int]
) -> dict[str, Any]:
    """Versions, machine, command, seed, data and sizes, as plain values."""
    return {
        "tijepa": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": config.seed,
        "data": splits.description,
        "store": None if splits.uri is None else _store(splits),
        "items": {name: len(source) for name, source in splits.splits.items()},
        "vocabulary": tokenizer.vocab_size,
        "parameters": dict(parameters),
    }


def _store(splits: PairSplits) -> dict[str, Any]:
    state = {} if splits.state is None else {"state": splits.state}
    return {"uri": splits.uri, "version": splits.version, **state}


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
