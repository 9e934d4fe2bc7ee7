"""What a run needs to know of a pretrained image encoder before it is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tijepa.errors import ConfigError
from tijepa.model.pretrained.open_clip import preprocessing
from tijepa.model.pretrained.transformers_backend import (
    config_of,
    describe,
    network_config,
    pretrained,
    projection_of,
)
from tijepa.model.pretrained.vit import TimmNet, architecture_of, from_timm
from tijepa.model.pretrained.weights import (
    BackboneFolder,
    find_backbone,
    read_weights,
    weight_files,
    weight_shapes,
)

Three = tuple[float, float, float]
_HALF = (0.5, 0.5, 0.5)  # what timm's plain ViTs expect where nothing else is said
_CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")  # of timm's networks


@dataclass(frozen=True)
class ImageSource:
    """The network, the images that it expects, and where its weights are.

    `net` is the argument of `ImageBackbone`, plain values. `image_size` is the side that it was
    trained on; `mean` and `std` are None where its folder does not say. `weights` reads its state
    for another side.
    """

    name: str
    net: dict[str, Any]
    image_size: int
    patch_size: int
    width: int
    mean: Three | None
    std: Three | None
    weights: Callable[[int], dict[str, Tensor]]

    def grid(self, image_size: int) -> int:
        """Patches a side of images of that size; `ConfigError` where they do not fit."""
        if image_size % self.patch_size:
            raise ConfigError(
                f"data.image_size {image_size} is not divisible by {self.patch_size}, the patch "
                f"size of backbone '{self.name}', which was trained on {self.image_size} pixels"
            )
        return image_size // self.patch_size


def open_image_source(
    name: str, *, trust_remote_code: bool = False, projected: bool = False
) -> ImageSource:
    """Read configuration and names of an image backbone, not its weights.

    With `projected` its summary is what a text-image model compares with texts. Raises
    `ConfigError` where it is not found, damaged or of an unknown kind, and `MissingExtraError`
    where it needs a package that is not installed.
    """
    folder = find_backbone(name)
    config = network_config(folder)
    if "model_type" in config or projected:
        return _transformers(folder, trust_remote_code, projected)
    files = weight_files(folder)
    architecture = architecture_of(weight_shapes(files))
    expected = config.get("pretrained_cfg", {})
    mean, std = (_three(expected.get(key, _HALF)) for key in ("mean", "std"))
    if architecture is not None:
        patch = architecture["patch_size"]
        return ImageSource(
            name=name,
            net={"kind": "vit", "config": architecture},
            image_size=architecture["image_size"],
            patch_size=patch,
            width=architecture["width"],
            mean=mean,
            std=std,
            weights=lambda size: from_timm(read_weights(files), size // patch),
        )
    if "architecture" not in config:
        raise ConfigError(
            f"backbone '{name}' holds no plain vision transformer by timm's names and no "
            f"config.json with a model_type or an architecture: complete {folder.path}"
        )
    size = int(expected.get("input_size", (3, 224, 224))[1])
    net = {"kind": "timm", "config": {"architecture": config["architecture"]}}
    built = TimmNet(net, size)
    return ImageSource(
        name=name,
        net=net,
        image_size=size,
        patch_size=size // built.grid,
        width=built.width,
        mean=mean,
        std=std,
        weights=lambda _: {
            f"inner.{key}": value
            for key, value in read_weights(files).items()
            if not key.startswith(_CLASSIFIERS)
        },
    )


def _transformers(folder: BackboneFolder, trust_remote_code: bool, projected: bool) -> ImageSource:
    description = describe(
        folder, "image", trust_remote_code=trust_remote_code, projected=projected
    )
    built = config_of(description)
    if not hasattr(built, "patch_size") or not hasattr(built, "hidden_size"):
        raise ConfigError(
            f"backbone '{folder.name}' is no vision transformer (model_type "
            f"'{built.model_type}'): use ViT, I-JEPA, DINOv2, DINOv3, CLIP or SigLIP"
        )
    expected = folder.json("preprocessor_config.json") or preprocessing(folder)
    mean, std = expected.get("image_mean"), expected.get("image_std")
    patch = int(built.patch_size)

    def weights(_: int) -> dict[str, Tensor]:
        inner = {f"inner.{key}": v for key, v in pretrained(folder, description).items()}
        return inner | projection_of(folder, "image", description)

    return ImageSource(
        name=folder.name,
        net={"kind": "transformers", **description},
        image_size=_side(expected) or int(built.image_size),
        patch_size=patch,
        width=int(built.hidden_size),
        mean=None if mean is None else _three(mean),
        std=None if std is None else _three(std),
        weights=weights,
    )


def _side(expected: dict[str, Any]) -> int | None:
    """The side of the images that a processor makes; None where it does not say."""
    for key in ("crop_size", "size"):
        if key == "crop_size" and not expected.get("do_center_crop"):
            continue
        size = expected.get(key)
        if isinstance(size, int):
            return size
        if isinstance(size, dict):
            found = size.get("height", size.get("shortest_edge"))
            if isinstance(found, int):
                return found
    return None


def _three(values: Any) -> Three:
    red, green, blue = values
    return (float(red), float(green), float(blue))


# What a run needs to know of a pretrained text encoder before it is built.

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "class"}


@dataclass(frozen=True)
class TextSource:
    """The network, its tokenizer file with the id of padding, and where its weights are.

    `pooling` and `normalise` are what a folder of sentence-transformers asks for, `pooling` None
    for others. `max_tokens` is the longest text that it can read, None for any length.
    """

    net: dict[str, Any]
    width: int
    tokenizer: Path
    pad_id: int
    max_tokens: int | None
    pooling: str | None
    normalise: bool
    weights: Callable[[], dict[str, Tensor]]


def open_text_source(
    name: str, *, trust_remote_code: bool = False, projected: bool = False
) -> TextSource:
    """Read configuration and tokenizer of a text backbone, not its weights.

    `projected` as for `open_image_source`. Raises `ConfigError` where it is not found, damaged or
    of an unknown kind.
    """
    folder = find_backbone(name)
    if "model_type" not in network_config(folder):
        raise ConfigError(
            f"backbone '{name}' has no config.json with a model_type in {folder.path}: give a text "
            "model of transformers or sentence-transformers"
        )
    description = describe(folder, "text", trust_remote_code=trust_remote_code, projected=projected)
    built = config_of(description)
    tokenizer = folder.path / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(
            f"backbone '{name}' has no tokenizer.json in {folder.path}: save its fast tokenizer "
            "there with save_pretrained"
        )
    pooling, normalise = _sentence_pooling(folder)
    longest = getattr(built, "max_position_embeddings", None)
    return TextSource(
        net={**description, "width": built.hidden_size},
        width=built.hidden_size,
        tokenizer=tokenizer,
        pad_id=int(built.pad_token_id or 0),
        max_tokens=longest,
        pooling=pooling,
        normalise=normalise,
        weights=lambda: (
            pretrained(folder, description) | projection_of(folder, "text", description)
        ),
    )


def _sentence_pooling(folder: BackboneFolder) -> tuple[str | None, bool]:
    """Pooling, and whether to normalise, of a folder of sentence-transformers."""
    path = folder.path / "modules.json"
    if not path.is_file():
        return None, False
    modules = [(m["type"].rpartition(".")[2], m["path"]) for m in json.loads(path.read_text())]
    pooling = None
    for kind, place in modules[1:]:
        if kind == "Pooling":
            chosen = [k for k, on in folder.json(place, "config.json").items() if on is True]
            named = [_POOLINGS[k] for k in chosen if k in _POOLINGS]
            pooling = named[0] if len(named) == 1 else None
    return pooling, any(kind == "Normalize" for kind, _ in modules)
