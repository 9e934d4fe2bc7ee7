"""What counts as an image or a text, and how an image becomes the input of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tijepa.data.images import centre_square, decode_image, normalise, pixels_of
from tijepa.errors import ConfigError, DataError

__all__ = [
    "ImageLike",
    "check_text",
    "energy_of_labels",
    "image_input",
    "image_list",
    "prompt_list",
    "read_image",
    "text_list",
]

ImageLike = Image.Image | str | Path | np.ndarray | Tensor


def check_text(text: str) -> None:
    """Raise `ConfigError` for a text that asks for nothing."""
    if not text.strip():
        raise ConfigError("the text is empty: say what to look for, such as 'a red circle'")


def text_list(texts: str | Sequence[str]) -> list[str]:
    """One or more texts as a list; `DataError` where one is no string."""
    listed = [texts] if isinstance(texts, str) else list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise DataError(f"text is {text!r}, not a string")
    return listed


def image_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One or more images as a list."""
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4:
        return list(images)
    if isinstance(images, (Image.Image, str, Path, np.ndarray, Tensor)):
        return [images]
    return list(images)


def image_input(
    image: ImageLike, size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "3 s s"]:
    """Centre crop of whatever counts as an image, normalised."""
    pixels = _pixels(image, size)
    cut = centre_square(pixels, size)
    return normalise(cut[None], mean, std)[0]


def _pixels(image: ImageLike, size: int) -> np.ndarray:
    """uint8 (height, width, 3)."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image), size)
    if isinstance(image, Image.Image):
        return pixels_of(image)
    if isinstance(image, Tensor):
        image = _from_tensor(image)
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"image is of type {type(image).__name__}; give a path, a PIL image, an array or a "
            "tensor"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"image is {image.dtype} {list(image.shape)} (height, width, channels); give uint8 "
            "(height, width, 3), or a tensor (3, height, width) of uint8 or of floats in [0, 1]"
        )
    return image


def read_image(path: Path, min_side: int = 0) -> np.ndarray:
    """Pixels uint8 (height, width, 3) of a file; the shorter side may shrink down to `min_side`.

    Raises `DataError` where it cannot be read.
    """
    try:
        return decode_image(path.read_bytes(), min_side=min_side)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}; check the path") from None
    except DataError as error:
        raise DataError(f"image {path}: {error}; replace the file") from None


def _from_tensor(image: Tensor) -> np.ndarray:
    """uint8 (height, width, 3) of a tensor (3, height, width)."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"image tensor is {list(image.shape)}; give (3, height, width)")
    image = image.detach().cpu()
    if image.is_floating_point():
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise DataError(
                f"image tensor has values from {float(image.min()):.3g} to "
                f"{float(image.max()):.3g}; give floats in [0, 1] or uint8"
            )
        image = (image.float() * 255).round().to(torch.uint8)
    return image.permute(1, 2, 0).numpy()


# Labels told by prompts: which prompts there are, and the energy of a label from theirs.


def prompt_list(labels: Mapping[str, str | Sequence[str]]) -> list[list[str]]:
    """The prompts of each label; `DataError` where there is no label, or no prompt for one."""
    if not isinstance(labels, Mapping):
        raise DataError(
            'labels are no mapping: give each label its prompts, such as {"cat": ["a cat"]}'
        )
    if not labels:
        raise DataError('there are no labels: give at least one, such as {"cat": ["a cat"]}')
    prompts = [[own] if isinstance(own, str) else list(own) for own in labels.values()]
    for label, own in zip(labels, prompts, strict=True):
        if not own:
            raise DataError(f"label '{label}' has no prompt: give one, such as 'a {label}'")
    return prompts


def energy_of_labels(energy: Float[Tensor, "i t"], prompts: Sequence[int]) -> Float[Tensor, "i l"]:
    """The mean energy of each label's prompts; `prompts` says how many columns each label has.

    A mean of energies is a mean of the logits of a match, which are linear in the energy.
    """
    assert energy.shape[1] == sum(prompts), (energy.shape, prompts)
    parts = torch.split(energy, list(prompts), dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)
