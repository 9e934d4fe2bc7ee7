"""Load a trained model: which folder of a run or of the hub holds it, and what lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tijepa.config.layers import load_plugins_of
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, ConfigError
from tijepa.inference.backend import PRECISIONS, OnnxBackend, Precision, check_known, usable_device
from tijepa.inference.calibration import Calibration
from tijepa.inference.embedder import Embedder
from tijepa.inference.hub.model_card import run_of
from tijepa.inference.hub.transfer import download, is_repo_id
from tijepa.model.saving import FROZEN, load_model, load_tensors, read_card, read_json

MODEL_FILES = (
    "model.json",
    "model.safetensors",
    FROZEN,
    "tokenizer.json",
    "calibration.safetensors",
)
BACKENDS = ("torch", "onnx")


def load(
    run: str | Path,
    *,
    checkpoint: str | None = None,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    backend: Literal["torch", "onnx"] = "torch",
    revision: str | None = None,
) -> Embedder:
    """Load a trained model from a run folder, one of its checkpoints, a saved folder, or the hub.

    A string "owner/name" that is no folder here is a model on the Hugging Face hub (extra `hf`),
    at `revision`, a branch, tag or commit. `checkpoint` is "best", "last" or a step; without it
    the run's final model is taken, or while it is unfinished its best checkpoint, or its last
    where none is best.

    `precision` is "float32" (default) or "bfloat16", which lets the encoders run under autocast.
    With `backend="onnx"` a folder that `tijepa export` wrote runs in onnxruntime on the CPU
    (extra `onnx`), in "float32" or, where it was exported so, in "int8".

    Raises `CheckpointError`, `ConfigError` for a device or precision that cannot be used, and
    `MissingExtraError`.
    """
    check_known("backend", backend, BACKENDS)
    if precision is not None:
        check_known("precision", precision, PRECISIONS)
    place = usable_device(device)
    found = _found(run, revision)
    if backend == "onnx":
        if checkpoint is not None:
            raise ConfigError(f"checkpoint '{checkpoint}' has no effect on exported graphs")
        return _load_onnx(found, place, precision or "float32")
    folder = model_folder(found, checkpoint)
    if (whole := run_of(folder)) is not None:
        load_plugins_of(whole)
    model, card = load_model(folder)
    if not (folder / "tokenizer.json").exists():
        raise CheckpointError(
            f"{folder} holds a model and no tokenizer.json: give the Trainer a tokenizer, or"
            " save there the one that its texts were encoded with"
        )
    return Embedder(
        model.to(place),
        Tokenizer.load(folder / "tokenizer.json"),
        card,
        _calibration(folder),
        place,
        precision=precision or "float32",
        origin=folder,
    )


def _found(run: str | Path, revision: str | None) -> Path:
    """The folder itself, or where a model of the hub was put."""
    if isinstance(run, str) and not Path(run).exists() and is_repo_id(run):
        return download(run, revision)
    if revision is not None:
        raise ConfigError(f"revision '{revision}' has no effect: {run} is not a model on the hub")
    return Path(run)


def _load_onnx(folder: Path, device: torch.device, precision: Precision) -> Embedder:
    backend = OnnxBackend(folder, device, precision)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return Embedder(backend, tokenizer, read_card(folder), _calibration(folder), origin=folder)


def _calibration(folder: Path) -> Calibration | None:
    """What `calibration.safetensors` holds, where there is one."""
    path = folder / "calibration.safetensors"
    if not path.exists():
        return None
    try:
        return Calibration.from_state(load_tensors(path))
    except KeyError as error:
        raise CheckpointError(
            f"{path} is damaged: it lacks {error}; use another checkpoint"
        ) from None


def model_folder(run: Path, checkpoint: str | None = None) -> Path:
    """The folder under `run` that holds the wanted model; `CheckpointError` if there is none."""
    if not run.is_dir():
        raise CheckpointError(f"{run} is not a folder; give a run folder such as runs/demo")
    candidates: list[Path | None] = []
    if checkpoint is None:
        candidates = [run, run / "model"]
    for which in ("best", "last") if checkpoint is None else (checkpoint,):
        candidates.append(checkpoint_folder(run, which))
    folders = [folder for folder in candidates if folder is not None]
    for folder in folders:
        if (folder / "model.json").exists():
            return folder
    for folder in folders:
        if (folder / "model.safetensors").exists():
            raise CheckpointError(
                f"{folder} holds weights and no model.json, which says how the model is built: give"
                " the Trainer card and tokenizer, or build the model and read them with"
                " tijepa.model.saving.restore_model(model, folder)"
            )
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
