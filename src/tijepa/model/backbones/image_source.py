"""What a run needs to know of a pretrained image encoder before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.backbones.folder import BackboneFolder, find_backbone
from tijepa.model.backbones.vit import architecture_of, from_timm
from tijepa.model.backbones.weights import read_weights, weight_files, weight_shapes

__all__ = ["ImageSource", "open_image_source"]

Three = tuple[float, float, float]
_HALF = (0.5, 0.5, 0.5)  # what timm's plain ViTs expect where nothing else is said


@dataclass(frozen=True)
class ImageSource:
    """The network ("kind" and "config"), the pictures that it expects, and where its weights are.

    `image_size` is the side that it was trained on; `weights` reads its state for another side.
    """

    net: dict[str, Any]
    image_size: int
    patch_size: int
    width: int
    mean: Three
    std: Three
    weights: Callable[[int], dict[str, Tensor]]

    def grid(self, image_size: int) -> int:
        """Patches a side of pictures of that size; `ConfigError` where they do not fit."""
        if image_size % self.patch_size:
            raise ConfigError(
                f"data.image_size {image_size} is not divisible by the backbone's patch size "
                f"{self.patch_size}: {self.image_size} is what it was trained on"
            )
        return image_size // self.patch_size


def open_image_source(name: str, *, trust_remote_code: bool = False) -> ImageSource:
    """Read configuration and names of an image backbone, not its weights.

    Raises `ConfigError` where it is not found, damaged or of an unknown kind.
    """
    folder = find_backbone(name)
    config = folder.json("config.json")
    if "model_type" in config:
        raise ConfigError(f"backbone '{name}': transformers image models are not supported yet")
    return _timm_vit(folder, config)


def _timm_vit(folder: BackboneFolder, config: dict[str, Any]) -> ImageSource:
    files = weight_files(folder)
    architecture = architecture_of(weight_shapes(files))
    if architecture is None:
        raise ConfigError(f"backbone '{folder.name}' holds no plain vision transformer")
    patch = architecture["patch_size"]
    expected = config.get("pretrained_cfg", {})
    return ImageSource(
        net={"kind": "vit", "config": architecture},
        image_size=architecture["image_size"],
        patch_size=patch,
        width=architecture["width"],
        mean=_three(expected.get("mean", _HALF)),
        std=_three(expected.get("std", _HALF)),
        weights=lambda size: from_timm(read_weights(files), size // patch),
    )


def _three(values: Any) -> Three:
    red, green, blue = values
    return (float(red), float(green), float(blue))
