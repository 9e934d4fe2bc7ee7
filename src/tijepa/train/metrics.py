"""Where numbers go: JSON lines always, TensorBoard and Weights & Biases where wanted."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Protocol

from tijepa.errors import MissingExtraError

__all__ = ["Metrics"]


class _Sink(Protocol):
    def write(self, scalars: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """Writes records of a run; after a resume, records beyond the checkpoint are cut off first."""

    def __init__(
        self, run_dir: Path, *, tensorboard: bool, wandb: bool, after_step: int | None = None
    ) -> None:
        self.path = run_dir / "metrics.jsonl"
        if after_step is not None:
            _cut(self.path, after_step)
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._sinks: list[_Sink] = []
        if tensorboard:
            self._sinks.append(_TensorBoard(run_dir / "tensorboard", after_step))
        if wandb:
            self._sinks.append(_Wandb(run_dir))

    def write(self, record: dict[str, Any]) -> None:
        """One line; numbers that are not finite become null, since JSON has no word for them."""
        self._file.write(json.dumps(_finite(record)) + "\n")
        scalars = _flat({k: v for k, v in record.items() if k not in ("kind", "step", "split")})
        prefix = "" if record["kind"] == "train" else f"{record['kind']}/"
        for sink in self._sinks:
            sink.write({prefix + name: value for name, value in scalars.items()}, record["step"])

    def close(self) -> None:
        """Flush and close everything."""
        self._file.close()
        for sink in self._sinks:
            sink.close()


class _TensorBoard:
    def __init__(self, folder: Path, after_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if after_step is None else after_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def write(self, scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run_dir: Path) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingExtraError("wandb", "track") from None
        self._run = wandb.init(project="tijepa", name=run_dir.name, dir=str(run_dir))

    def write(self, scalars: dict[str, float], step: int) -> None:
        self._run.log(scalars, step=step)

    def close(self) -> None:
        self._run.finish()


def _cut(path: Path, after_step: int) -> None:
    """Drop the records of steps that a resumed run will do again (and a torn last line)."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["step"] <= after_step:
            kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + name] = float(value)
    return flat


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
