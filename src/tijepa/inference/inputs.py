"""What counts as an image or a text, how an image becomes the input of a model, occlusion masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tijepa.data.images import Pixels, decode_image, pixels_of, prepare
from tijepa.errors import ConfigError, DataError
from tijepa.inference.backend import check_known
from tijepa.inference.embeddings import Form
from tijepa.model.saving import ModelCard


@runtime_checkable
class BinaryFile(Protocol):
    """A file that was opened for reading bytes, or what reads like one."""

    def read(self) -> Any:
        """The bytes from where the file stands to its end."""


ImageLike = Image.Image | str | Path | bytes | BinaryFile | np.ndarray | Tensor
Images = ImageLike | Sequence[ImageLike]
Texts = str | Sequence[str]
Output = Literal["torch", "numpy"]
_ONE = (Image.Image, str, Path, bytes, bytearray, BinaryFile, np.ndarray, Tensor, type(None))


class Encoding(TypedDict, total=False):
    """How `Embedder.encode_image` and `encode_text` encode."""

    form: Form
    batch_size: int
    progress: bool


def as_output(rows: Tensor, output: Output) -> Tensor | NDArray[np.float32]:
    """The same as a tensor or an array; `ConfigError` for another kind."""
    check_known("output", output, get_args(Output))
    if output == "torch":
        return rows
    array: NDArray[np.float32] = rows.numpy()
    return array


def check_text(text: str) -> None:
    """Raise `ConfigError` for a text that asks for nothing."""
    if not text.strip():
        raise ConfigError("the text is empty: say what to look for, such as 'a red circle'")


def text_list(texts: str | Sequence[str]) -> list[str]:
    """One or more texts as a list; `DataError` that names the one that is no text."""
    listed = [texts] if texts is None or isinstance(texts, str) else list(texts)
    for number, text in enumerate(listed):
        name = _name("text", number, len(listed))
        if not isinstance(text, str):
            raise DataError(f"{name} is {text!r}, not a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{name} holds half of a surrogate pair, {text[error.start]!a} at character"
                f" {error.start}: mend how it was decoded"
            ) from None
    return listed


def image_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One or more images as a list."""
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4:
        return list(images)
    return [images] if isinstance(images, _ONE) else list(images)


def image_inputs(
    images: Sequence[ImageLike] | Float[Tensor, "i 3 s s"], part: slice, card: ModelCard
) -> Float[Tensor, "p 3 s s"]:
    """A part of what counts as images, cropped to the centre and normalised.

    A tensor holds images that are so already. Raises `DataError` that names what is no image.
    """
    if isinstance(images, Tensor):
        return images[part]
    found = []
    for number, image in enumerate(images[part], start=part.start):
        pixels = _pixels(image, _name("image", number, len(images)), card.image_size)
        found.append(prepare(pixels, card.image_size, card.mean, card.std))
    return torch.stack(found)


def _name(what: str, number: int, of: int) -> str:
    """What an error calls an item: its number where there are several."""
    return what if of == 1 else f"{what} {number}"


def _pixels(image: ImageLike, name: str, min_side: int) -> Pixels:
    """uint8 (height, width, 3); the shorter side of a file may shrink down to `min_side`."""
    if isinstance(image, (str, Path)):
        return read_image(Path(image), min_side)
    if isinstance(image, Tensor):
        image = _from_tensor(image, name)
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        raise DataError(
            f"{name} is {image.dtype} {list(image.shape)} (height, width, channels); give uint8 "
            "(height, width, 3), or a tensor (3, height, width) of uint8 or of floats in [0, 1]"
        )
    if isinstance(image, BinaryFile):
        try:
            image = image.read()
        except (OSError, ValueError) as error:
            raise DataError(f"{name} is a file that cannot be read: {error}") from None
        if not isinstance(image, bytes):
            raise DataError(f"{name} is a file of text: open it as 'rb'")
    try:
        if isinstance(image, (bytes, bytearray)):
            return decode_image(bytes(image), min_side)
        if isinstance(image, Image.Image):
            return pixels_of(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    raise DataError(
        f"{name} is of type {type(image).__name__}; give a path, bytes, a file, a PIL image, an"
        " array or a tensor"
    )


def read_image(path: Path, min_side: int = 0) -> Pixels:
    """Pixels uint8 (height, width, 3) of a file; the shorter side may shrink down to `min_side`.

    Raises `DataError` where it cannot be read.
    """
    try:
        return decode_image(path.read_bytes(), min_side=min_side)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}; check the path") from None
    except DataError as error:
        raise DataError(f"image {path}: {error}; replace the file") from None
    except ValueError as error:  # a null byte or half of a surrogate pair
        raise DataError(f"cannot read image {str(path)!a}: {error}; check the path") from None


def _from_tensor(image: Tensor, name: str) -> np.ndarray:
    """uint8 (height, width, 3) of a tensor (3, height, width)."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"{name} tensor is {list(image.shape)}; give (3, height, width)")
    image = image.detach().cpu()
    if image.is_floating_point():
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise DataError(
                f"{name} tensor has values from {float(image.min()):.3g} to "
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


# Occlusion masks: the energy map is the energy of what each leaves visible. Every other pixel takes
# the image's own median colour, so an encoder that was trained on whole images still sees one; it
# need not know how to go without patches (docs/log.md compares this with hiding patches, with patch
# tokens and with token-level prediction).


CELLS = 1.5  # side of what a mask leaves visible, in cells


def occlusion_masks(image_size: int, grid: int, cells: float = CELLS) -> Bool[Tensor, "w s s"]:
    """True on a square of `cells` cells a side centred on each of grid x grid cells, row-major.

    A pixel is inside where its centre is; squares at the border are cut off by it. Raises
    `ConfigError` where a cell is smaller than two pixels a side or there is none.
    """
    if not 1 <= grid <= image_size // 2:
        raise ConfigError(
            f"grid is {grid}: it must lie between 1 and {image_size // 2}, half the model's image"
            " size in pixels"
        )
    cell = image_size / grid
    pixel = torch.arange(image_size) + 0.5
    centre = (torch.arange(grid) + 0.5) * cell
    near = (pixel[None, :] - centre[:, None]).abs() <= cells * cell / 2
    both = near[:, None, :, None] & near[None, :, None, :]
    return both.reshape(grid * grid, image_size, image_size)


def occluded(
    image: Float[Tensor, "3 s s"], visible: Bool[Tensor, "w s s"]
) -> Float[Tensor, "w 3 s s"]:
    """The image behind each mask: what is not visible has its median colour (of each channel)."""
    cover = image.flatten(1).median(dim=1).values[:, None, None]
    return torch.where(visible[:, None], image, cover)
