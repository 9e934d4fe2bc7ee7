"""Which folder of a run holds the wanted model."""

from __future__ import annotations

from pathlib import Path

from tijepa.errors import CheckpointError
from tijepa.model.saving import read_json

__all__ = ["checkpoint_folder", "model_folder"]


def model_folder(run: Path, checkpoint: str | None = None) -> Path:
    """The folder under `run` that holds the wanted model; `CheckpointError` if there is none."""
    if not run.is_dir():
        raise CheckpointError(f"{run} is not a folder; give a run folder such as runs/demo")
    candidates: list[Path | None] = []
    if checkpoint is None:
        candidates = [run, run / "model"]
    for which in ("best", "last") if checkpoint is None else (checkpoint,):
        candidates.append(checkpoint_folder(run, which))
    for folder in candidates:
        if folder is not None and (folder / "model.json").exists():
            return folder
    held = _checkpoints(run)
    known = f"it has {', '.join(path.name for path in held)}" if held else "it has no checkpoints"
    raise CheckpointError(f"no model '{checkpoint or 'final'}' in {run}; {known}")


def checkpoint_folder(run: Path, which: str) -> Path | None:
    """The folder of the "best" or "last" checkpoint of a run, or of a step; None if there is none.

    Raises `CheckpointError` where `best.json` is damaged.
    """
    held = {path.name: path for path in _checkpoints(run)}
    if which == "last":
        return max(held.values(), key=lambda path: int(path.name[5:]), default=None)
    pointer = run / "checkpoints" / "best.json"
    if which != "best":
        return held.get(f"step-{int(which):08d}") if which.isdecimal() else None
    if not pointer.exists():
        return None
    best = read_json(pointer)
    if not isinstance(best, dict) or not isinstance(best.get("step"), int):
        raise CheckpointError(f"{pointer} is damaged: it names no step; delete it")
    return held.get(f"step-{best['step']:08d}")


def _checkpoints(run: Path) -> list[Path]:
    """Folders of complete checkpoints, oldest first."""
    return sorted(
        path
        for path in (run / "checkpoints").glob("step-*")
        if path.name[5:].isdecimal() and path.is_dir()
    )
