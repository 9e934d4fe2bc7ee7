"""Who is told what happens while a run trains: callbacks, the loggers among them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from tijepa.errors import MissingExtraError
from tijepa.io.files import write_whole, writing
from tijepa.io.formatting import without_nan
from tijepa.registry import register

Record = Mapping[str, Any]


class Callback:
    """Override what you want to know. Nothing is read from the device for a callback's sake."""

    def on_start(self, step: int, steps: int) -> None:
        """Training goes on after `step` updates, 0 for a fresh run, and ends after `steps`.

        Whatever was told of later steps before is void.
        """

    def on_step(self, step: int, record: Record | None) -> None:
        """The update number `step` was made; `record` is what was read of it, every now and then.

        Its keys: kind ("train"), step, epoch, pairs, loss, lr, weight_decay, ema_momentum,
        grad_norm, pairs_per_second, data_wait, and the readings of the objective.
        """

    def on_evaluation_start(self, step: int) -> None:
        """The next seconds go into an evaluation."""

    def on_evaluation(self, step: int, record: Record) -> None:
        """An evaluation ended; `record` holds what the evaluations found, and kind ("eval")."""

    def on_checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint was written."""

    def on_rollback(self, step: int, to_step: int, rollbacks: int) -> None:
        """The guard went back to a healthy checkpoint, for the `rollbacks`-th time.

        Whatever was told of steps after `to_step` is void.
        """

    def on_end(self) -> None:
        """Training ended, whichever way; close what is open."""


class ProgressLine(Callback):
    """One line on stderr that is written over: for whoever asks for progress in Python."""

    def on_start(self, step: int, steps: int) -> None:
        """See `Callback.on_start`."""
        self._steps = steps

    def on_step(self, step: int, record: Record | None) -> None:
        """Show the latest record."""
        if record is not None:
            text = f"step {step:,}/{self._steps:,}  loss {record['loss']:.4f}"
            sys.stderr.write(f"\r{text}")
            sys.stderr.flush()

    def on_end(self) -> None:
        """End the line."""
        sys.stderr.write("\n")


class JsonLines(Callback):
    """`metrics.jsonl`: every record one line of JSON, on disk at once.

    Numbers that are not finite become null, since JSON has no word for them. Raises
    `CheckpointError` where the disk is full or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self._file: IO[str] | None = None

    def on_start(self, step: int, steps: int) -> None:
        """Cut off the records of steps that are done again, and lines that are damaged."""
        self._go_on_after(step)

    def on_step(self, step: int, record: Record | None) -> None:
        """Write a training record."""
        if record is not None:
            self._write(record)

    def on_evaluation(self, step: int, record: Record) -> None:
        """Write an evaluation."""
        self._write(record)

    def on_rollback(self, step: int, to_step: int, rollbacks: int) -> None:
        """Drop the records of abandoned steps."""
        self._go_on_after(to_step)

    def on_end(self) -> None:
        """Close the file."""
        if self._file is not None:
            with writing(self.path):
                self._file.close()

    def _go_on_after(self, step: int) -> None:
        self.on_end()
        with writing(self.path):
            if self.path.is_file():
                text = self.path.read_text(encoding="utf-8", errors="replace")
                kept = "".join(f"{line}\n" for line in text.split("\n") if _is_up_to(line, step))
                write_whole(self.path, kept.encode())
            self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def _write(self, record: Record) -> None:
        assert self._file is not None
        with writing(self.path):
            self._file.write(json.dumps(without_nan(dict(record))) + "\n")


class ScalarLogger(Callback):
    """A logger of numbers by name and step; `folder` is that of the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers of one step; those of evaluations have names that begin with "eval/"."""
        raise NotImplementedError

    def on_step(self, step: int, record: Record | None) -> None:
        """Log a training record."""
        if record is not None:
            self._log(record, "", step)

    def on_evaluation(self, step: int, record: Record) -> None:
        """Log an evaluation."""
        self._log(record, "eval/", step)

    def _log(self, record: Record, prefix: str, step: int) -> None:
        told = {key: v for key, v in record.items() if key not in ("kind", "step", "split")}
        with writing(self.folder):
            self.log(_flat(told, prefix), step)


@register("logger", "tensorboard")
class TensorBoard(ScalarLogger):
    """Curves for TensorBoard, in `tensorboard/` of the run."""

    def on_start(self, step: int, steps: int) -> None:
        """Open the curves; of a resumed run those of later steps are hidden."""
        with writing(self.folder):
            self._open(step + 1 if step else None)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """See `ScalarLogger.log`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def on_rollback(self, step: int, to_step: int, rollbacks: int) -> None:
        """Hide the abandoned steps."""
        with writing(self.folder):
            self._writer.close()
            self._open(to_step + 1)

    def on_end(self) -> None:
        """Close the curves."""
        with writing(self.folder):
            self._writer.close()

    def _open(self, purge: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=purge)


@register("logger", "wandb")
class WeightsAndBiases(ScalarLogger):
    """A run of project `tijepa` in Weights & Biases, which cannot unsay abandoned steps.

    Raises `MissingExtraError` where the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._package = _optional("wandb")

    def on_start(self, step: int, steps: int) -> None:
        """Open the run."""
        name, place = self.folder.resolve().name, str(self.folder)
        self._run = self._package.init(project="tijepa", name=name, dir=place)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """See `ScalarLogger.log`."""
        self._run.log(scalars, step=step)

    def on_end(self) -> None:
        """Finish the run."""
        self._run.finish()


@register("logger", "mlflow")
class MLflow(ScalarLogger):
    """A run of experiment `tijepa` in MLflow, where its environment says (MLFLOW_TRACKING_URI).

    Raises `MissingExtraError` where the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._package = _optional("mlflow")

    def on_start(self, step: int, steps: int) -> None:
        """Open the run."""
        self._package.set_experiment("tijepa")
        self._package.start_run(run_name=self.folder.resolve().name)

    def log(self, scalars: dict[str, float], step: int) -> None:
        """See `ScalarLogger.log`; MLflow has no word for numbers that are not finite."""
        finite = {name: value for name, value in scalars.items() if value - value == 0}
        self._package.log_metrics(finite, step=step)

    def on_end(self) -> None:
        """End the run."""
        self._package.end_run()


def _optional(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, "track") from None


def _is_up_to(line: str, step: int) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    at = record.get("step") if isinstance(record, dict) else None
    return isinstance(at, int) and at <= step


def _flat(record: Mapping[str, Any], prefix: str) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + name] = float(value)
    return flat
