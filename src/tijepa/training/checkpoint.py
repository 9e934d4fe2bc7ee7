"""Checkpoints: folders that are written whole or not at all, and never unpickled.

A checkpoint holds the model (context encoders, predictors, target encoders), the objective's own
parameters, the optimizer's moments, and the state of the run: step, data cursor, best so far, and
what the collapse guard remembers. All randomness of a run (order of pairs, captions, crops, masks,
random directions) is a function of the seed and the step or cursor, so these numbers are the whole
random state, and schedules are functions of the step and of the number of rollbacks.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError
from tijepa.evaluate.detect import Track
from tijepa.inference.calibration import Calibration
from tijepa.inference.results import Rollback
from tijepa.io.files import neighbour, tidy, whole_folder, writing
from tijepa.model.saving import (
    ModelCard,
    load_tensors,
    load_weights,
    read_json,
    restore_model,
    save_model,
    save_tensors,
    write_json,
)
from tijepa.model.text_image_model import TextImageModel


@dataclass(frozen=True)
class RunState:
    """Where a run is: updates done, stream position of the next pair, and the best evaluation.

    Of the collapse guard: the last checkpoint found healthy, collapsed evaluations in a row, what
    it remembers of each subject, and the rollbacks so far.
    """

    step: int
    cursor: int
    best_step: int | None = None
    best_recall: float = -1.0
    healthy_step: int | None = None
    collapsed_in_a_row: int = 0
    tracks: Mapping[str, Track] = field(default_factory=dict)
    rollbacks: tuple[Rollback, ...] = ()


class Checkpoints:
    """The `checkpoints` folder of a run: `step-NUMBER`, one folder each.

    Kept are the last `keep_last`, the best, and the last one that the collapse guard found healthy.

    A folder gets its name when it is complete, so whatever is called `step-NUMBER` can be restored;
    the newest is the last. `best.json` names the best.
    """

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last
        with writing(folder):
            tidy(folder)

    def path(self, step: int) -> Path:
        """Where the checkpoint after `step` updates lies."""
        return self.folder / f"step-{step:08d}"

    def save(
        self,
        state: RunState,
        model: TextImageModel,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        card: ModelCard | None,
        tokenizer: Tokenizer | None,
        calibration: Calibration | None,
    ) -> Path:
        """Write a checkpoint, then the pointer to the best, then delete what is too old.

        Raises `CheckpointError` (disk full, not writable) and leaves no half-written folder; the
        earlier checkpoints stay as they were.
        """
        with whole_folder(self.path(state.step)) as folder:
            save_model(model, card, folder, earlier=self.last())
            if tokenizer is not None:
                tokenizer.save(folder / "tokenizer.json")
            if calibration is not None:
                save_tensors(calibration.state(), folder / "calibration.safetensors")
            save_tensors(objective.state_dict(), folder / "objective.safetensors")
            save_tensors(_moments(optimizer), folder / "optimizer.safetensors")
            write_json(asdict(state), folder / "state.json")
        with writing(self.folder):
            self._settle(state)
        return self.path(state.step)

    def last(self) -> Path | None:
        """The newest checkpoint, if there is one."""
        steps = self._steps()
        return self.path(steps[-1]) if steps else None

    def to_resume(self) -> Path:
        """The same; `CheckpointError` where there is none."""
        last = self.last()
        if last is None:
            raise CheckpointError(
                f"{self.folder.parent} has no checkpoint to resume from; delete it, or train into"
                " another `out`"
            )
        return last

    def restore(
        self,
        path: Path,
        model: TextImageModel,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> RunState:
        """Load everything of a checkpoint; `CheckpointError` where a name or a shape differs."""
        state = _state(path / "state.json")
        restore_model(model, path)
        load_weights(objective, load_tensors(path / "objective.safetensors"), path)
        _load_moments(optimizer, load_tensors(path / "optimizer.safetensors"), path)
        with writing(self.folder):
            self._settle(state)
        return state

    def rewind(self, state: RunState) -> None:
        """Make the checkpoint at `state.step`, whose weights stay, the last one.

        It is marked with `state` before later ones are deleted: a run that dies in between resumes
        from one of these, and comes here again.
        """
        with writing(self.folder):
            write_json(asdict(state), self.path(state.step) / "state.json")
            self._settle(state)

    def _settle(self, state: RunState) -> None:
        """Make the folder what it should be after the checkpoint of `state`.

        Also after a restore: the run may have died between writing that checkpoint and this.
        """
        if state.best_step is not None and self.path(state.best_step).exists():
            write_json(
                {"step": state.best_step, "recall": state.best_recall}, self.folder / "best.json"
            )
        steps = self._steps()
        kept = set([step for step in steps if step <= state.step][-self.keep_last :])
        kept |= {step for step in (state.best_step, state.healthy_step) if step is not None}
        for step in steps:
            if step not in kept:
                doomed = neighbour(self.path(step))
                os.replace(self.path(step), doomed)  # a half-deleted folder must not bear the name
                shutil.rmtree(doomed)

    def _steps(self) -> list[int]:
        names = [re.fullmatch(r"step-(\d{8,})", path.name) for path in self.folder.glob("step-*")]
        return sorted(int(name[1]) for name in names if name is not None)


def _state(path: Path) -> RunState:
    fields = read_json(path)
    try:
        tracks = {name: Track(**track) for name, track in fields.pop("tracks", {}).items()}
        rollbacks = tuple(Rollback(**one) for one in fields.pop("rollbacks", ()))
        return RunState(**fields, tracks=tracks, rollbacks=rollbacks)
    except (TypeError, AttributeError):
        raise CheckpointError(
            f"{path} does not hold the state of a run; delete {path.parent} to resume from the "
            "checkpoint before it"
        ) from None


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
