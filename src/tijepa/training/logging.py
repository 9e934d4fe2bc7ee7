"""Where numbers go: JSON lines always, TensorBoard and Weights & Biases where wanted."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch

from tijepa.config import RunConfig
from tijepa.data.pairs import PairSplits
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import MissingExtraError
from tijepa.io.files import write_whole, writing
from tijepa.io.formatting import without_nan
from tijepa.version import __version__

__all__ = ["Metrics", "environment_of", "import_wandb", "processor"]


class _Sink(Protocol):
    def write(self, scalars: dict[str, float], step: int) -> None: ...

    def rewind(self, step: int) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """Writes records of a run; after a resume, records beyond the checkpoint are cut off first.

    Raises `CheckpointError` where the disk is full or cannot be written, `MissingExtraError` where
    `wandb` is asked for and not installed.
    """

    def __init__(
        self, run_dir: Path, *, tensorboard: bool, wandb: bool, after_step: int | None = None
    ) -> None:
        self.path = run_dir / "metrics.jsonl"
        self._sinks: list[_Sink] = []
        package = import_wandb() if wandb else None
        with writing(self.path):
            if after_step is not None:
                _cut(self.path, after_step)
            self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        if tensorboard:
            with writing(run_dir / "tensorboard"):
                self._sinks.append(_TensorBoard(run_dir / "tensorboard", after_step))
        if package is not None:
            self._sinks.append(_Wandb(package, run_dir))

    def write(self, record: dict[str, Any]) -> None:
        """One line; numbers that are not finite become null, since JSON has no word for them."""
        with writing(self.path):
            self._file.write(json.dumps(without_nan(record)) + "\n")
        scalars = _flat({k: v for k, v in record.items() if k not in ("kind", "step", "split")})
        prefix = "" if record["kind"] == "train" else f"{record['kind']}/"
        with writing(self.path.parent):
            for sink in self._sinks:
                sink.write({prefix + k: v for k, v in scalars.items()}, record["step"])

    def rewind(self, step: int) -> None:
        """Drop the records of later steps: the run goes on from `step`.

        Weights & Biases cannot unsay anything and ignores steps it has seen.
        """
        with writing(self.path):
            self._file.close()
            _cut(self.path, step)
            self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        with writing(self.path.parent):
            for sink in self._sinks:
                sink.rewind(step)

    def close(self) -> None:
        """Flush and close everything, whichever of it fails."""
        with writing(self.path.parent), ExitStack() as stack:
            stack.callback(self._file.close)
            for sink in self._sinks:
                stack.callback(sink.close)


class _TensorBoard:
    def __init__(self, folder: Path, after_step: int | None) -> None:
        self._folder = folder
        self._open(after_step)

    def _open(self, after_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if after_step is None else after_step + 1
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)

    def write(self, scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        self._writer.close()
        self._open(step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, package: ModuleType, run_dir: Path) -> None:
        self._run = package.init(project="tijepa", name=run_dir.resolve().name, dir=str(run_dir))

    def write(self, scalars: dict[str, float], step: int) -> None:
        self._run.log(scalars, step=step)

    def rewind(self, step: int) -> None:
        pass

    def close(self) -> None:
        self._run.finish()


def import_wandb() -> ModuleType:
    """The package of Weights & Biases, or `MissingExtraError`."""
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise MissingExtraError("wandb", "track") from None


def _cut(path: Path, after_step: int) -> None:
    """Drop the records of steps that a resumed run will do again, and lines that are damaged."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    kept = "".join(f"{line}\n" for line in lines if _is_up_to(line, after_step))
    write_whole(path, kept.encode())


def _is_up_to(line: str, step: int) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    at = record.get("step") if isinstance(record, dict) else None
    return isinstance(at, int) and at <= step


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + name] = float(value)
    return flat


# Where and with what a run was made: the content of `environment.json`.


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
