"""Checkpoints: folders that are written whole or not at all, and never unpickled.

A checkpoint holds the model (context encoders, predictors, target encoders), the objective's own
parameters, the optimizer's moments, and the state of the run: step, data cursor, best so far. All
randomness of a run (order of pairs, captions, crops, masks, random directions) is a function of
the seed and the step or cursor, so these numbers are the whole random state, and schedules are
functions of the step.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError
from tijepa.model.saving import (
    ModelCard,
    load_tensors,
    load_weights,
    read_json,
    save_model,
    save_tensors,
    write_json,
)
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.calibration import Calibration

__all__ = ["Checkpoints", "RunState"]


@dataclass(frozen=True)
class RunState:
    """Where a run is: updates done, stream position of the next pair, and the best evaluation."""

    step: int
    cursor: int
    best_step: int | None = None
    best_recall: float = -1.0


class Checkpoints:
    """The `checkpoints` folder of a run: the last `keep_last`, and the best."""

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def path(self, step: int) -> Path:
        """Where the checkpoint after `step` updates lies."""
        return self.folder / f"step-{step:08d}"

    def save(
        self,
        state: RunState,
        model: TextImageModel,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        card: ModelCard,
        tokenizer: Tokenizer,
        calibration: Calibration | None,
    ) -> Path:
        """Write a checkpoint, then the pointers to last and best, then delete what is too old.

        Raises `CheckpointError` (disk full, not writable) and leaves no half-written folder.
        """
        final = self.path(state.step)
        temporary = self.folder / f".{final.name}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_model(model, card, temporary)
            tokenizer.save(temporary / "tokenizer.json")
            if calibration is not None:
                save_tensors(calibration.state(), temporary / "calibration.safetensors")
            save_tensors(objective.state_dict(), temporary / "objective.safetensors")
            save_tensors(_moments(optimizer), temporary / "optimizer.safetensors")
            write_json(asdict(state), temporary / "state.json")
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {final}: {error.strerror}; free some space or choose another --out"
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        write_json({"step": state.step}, self.folder / "last.json")
        if state.best_step is not None and self.path(state.best_step).exists():
            write_json(
                {"step": state.best_step, "recall": state.best_recall}, self.folder / "best.json"
            )
        self._prune(state)
        return final

    def last(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        pointer = self.folder / "last.json"
        return self.path(int(read_json(pointer)["step"])) if pointer.exists() else None

    def restore(
        self,
        path: Path,
        model: TextImageModel,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> RunState:
        """Load everything of a checkpoint; `CheckpointError` where a name or a shape differs."""
        load_weights(model, load_tensors(path / "model.safetensors"), path / "model.safetensors")
        load_weights(objective, load_tensors(path / "objective.safetensors"), path)
        _load_moments(optimizer, load_tensors(path / "optimizer.safetensors"), path)
        return RunState(**read_json(path / "state.json"))

    def _prune(self, state: RunState) -> None:
        steps = sorted(int(p.name.removeprefix("step-")) for p in self.folder.glob("step-*"))
        kept = {*steps[-self.keep_last :], state.best_step}
        for step in steps:
            if step not in kept:
                shutil.rmtree(self.path(step))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as named tensors: `<parameter number>.<exp_avg | exp_avg_sq | step>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, s in state.items() for name, value in s.items()}


def _load_moments(optimizer: torch.optim.Optimizer, named: dict[str, Tensor], path: Path) -> None:
    current = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in named.items():
        number, _, field = name.partition(".")
        own = parameters[int(number)] if int(number) < len(parameters) else None
        if own is None or (field != "step" and own.shape != value.shape):
            raise CheckpointError(
                f"{path} is of another shape: optimizer state {name} does not fit this model; "
                "use the configuration it was trained with"
            )
        state.setdefault(int(number), {})[field] = value
    current["state"] = state
    optimizer.load_state_dict(current)
