"""The weights of a pretrained encoder, from safetensors files alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.backbones.folder import BackboneFolder

__all__ = ["hash_of_weights", "read_weights", "weight_files", "weight_shapes"]


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
