"""A model on disk: safetensors and JSON, written whole or not at all. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tijepa.errors import CheckpointError, ConfigError
from tijepa.io.files import write_whole, writing
from tijepa.model.text_image_model import TextImageModel

FORMAT = 1
FROZEN = "frozen.safetensors"
_CONTEXT, _TARGET = "context.", "target."
_NORMALISATION = ("mean", "std")


@dataclass(frozen=True)
class ModelCard:
    """What is needed to rebuild a model: the arguments of `TextImageModel` and its inputs' form.

    Pixels in [0, 1] become (value - mean) / std, by channel.
    """

    arguments: dict[str, Any]
    objective: str
    image_size: int
    max_tokens: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file through a temporary neighbour, so that `path` is never half-written.

    Raises `CheckpointError` where the disk is full or the folder is not writable.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, safetensors.torch.save(plain))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; `CheckpointError` where it is missing or damaged."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}; is the run complete?"
        ) from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint") from None


def write_json(value: Any, path: Path) -> None:
    """Write JSON through a temporary neighbour."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; `CheckpointError` where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}; is this a run folder?"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint") from None


def save_model(
    model: TextImageModel, card: ModelCard | None, folder: Path, earlier: Path | None = None
) -> None:
    """Write `model.json`, `model.safetensors` and, for what is frozen, `frozen.safetensors`.

    Without a `card` there is no `model.json`: the weights fit a model that is built as this one.

    Frozen weights of a run are always the same: where `earlier`, another folder of that run, holds
    them, its file is linked (copied where the disk cannot link) instead of written anew.
    """
    state, frozen = model.state_dict(), model.frozen_names()
    if frozen:
        _save_frozen({name: state[name] for name in frozen}, folder, earlier)
    unsaved = frozen | {_TARGET + name.removeprefix(_CONTEXT) for name in frozen}
    kept = {name: value for name, value in state.items() if name not in unsaved}
    save_tensors(kept, folder / "model.safetensors")
    if card is not None:
        write_card(card, folder)


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `model.json` into an existing folder."""
    write_json({"format": FORMAT, **card.__dict__}, folder / "model.json")


def _save_frozen(frozen: Mapping[str, Tensor], folder: Path, earlier: Path | None) -> None:
    path = folder / FROZEN
    if earlier is None or not (earlier / FROZEN).exists():
        save_tensors(frozen, path)
        return
    with writing(path):
        link_or_copy(earlier / FROZEN, path)


def link_or_copy(source: Path, path: Path) -> None:
    """The same file under another name; a copy where the disk has no links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def restore_model(model: TextImageModel, folder: Path) -> None:
    """Load what `save_model` wrote; `CheckpointError` where a name or a shape differs.

    A model without target encoders leaves those of the file aside.
    """
    path = folder / "model.safetensors"
    weights = load_tensors(path)
    if model.frozen_names():
        frozen = load_tensors(folder / FROZEN)
        weights |= frozen
        weights |= {_TARGET + name.removeprefix(_CONTEXT): v for name, v in frozen.items()}
    if model.target is None:
        weights = {name: v for name, v in weights.items() if not name.startswith(_TARGET)}
    load_weights(model, weights, path)


def read_card(folder: Path) -> ModelCard:
    """Read `model.json`; `CheckpointError` where it is missing, damaged or of a later format.

    The first cards lack mean and std, which were 0.5 then.
    """
    path = folder / "model.json"
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT}; load it with a newer tijepa")
    del found["format"]
    if not found.keys() & set(_NORMALISATION):
        found |= {name: [0.5, 0.5, 0.5] for name in _NORMALISATION}
    fields = set(ModelCard.__dataclass_fields__)
    if found.keys() != fields:
        differing = ", ".join(sorted(found.keys() ^ fields))
        raise CheckpointError(f"{path} is damaged ({differing}); use another checkpoint")
    for name in _NORMALISATION:
        found[name] = _three_numbers(found[name], name, path)
    return ModelCard(**found)


def _three_numbers(value: Any, name: str, path: Path) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or any(type(v) is not float for v in value):
        raise CheckpointError(f"{path} is damaged ({name} is {value}); use another checkpoint")
    return (value[0], value[1], value[2])


def load_model(folder: Path) -> tuple[TextImageModel, ModelCard]:
    """Rebuild a saved model in evaluation mode on the CPU, without target encoders.

    Raises `CheckpointError`, also where a part of it is not registered.
    """
    card = read_card(folder)
    with torch.random.fork_rng(devices=[]):
        try:
            model = TextImageModel(**{**card.arguments, "ema": False})
        except ConfigError as error:
            raise CheckpointError(
                f"{folder} cannot be built: {error}; import the package that registers it first"
            ) from None
    restore_model(model, folder)
    return model.eval(), card


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], origin: Path) -> None:
    """Load weights; names and shapes must all agree, else `CheckpointError` names the first."""
    own = module.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        ours, theirs = own.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            raise CheckpointError(
                f"{origin} is of another shape: {name} is {_shape(theirs)} there and "
                f"{_shape(ours)} in this model; use the configuration it was trained with"
            )
    module.load_state_dict(dict(weights))


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))
