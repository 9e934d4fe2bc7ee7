"""Images that come in, checked by their header and decoded, and images that go out."""

from __future__ import annotations

import io
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tijepa.data.images import decode_image, jpeg_header, open_image, prepare
from tijepa.errors import ImageError
from tijepa.model.saving import ModelCard

QUALITY = 88


@dataclass(frozen=True)
class Received:
    """The model's input of one image, and the size of the upright original in pixels."""

    inputs: Float[Tensor, "3 s s"]
    width: int
    height: int


def read_image(data: bytes, card: ModelCard, most_pixels: int) -> Received:
    """Decode `data` as the model reads it. The bound on pixels is checked before decoding.

    Raises `ImageError`.
    """
    width, height = _stated_size(data, most_pixels)
    if width * height > most_pixels:
        raise _too_large(most_pixels, f"{width} x {height} ")
    try:
        pixels = decode_image(data, min_side=card.image_size)
    except ImageError as error:
        raise ImageError(error.kind, f"the image {error}") from None
    tall, wide = pixels.shape[:2]
    if (width > height and tall > wide) or (height > width and wide > tall):
        width, height = height, width  # turned upright by its EXIF
    return Received(prepare(pixels, card.image_size, card.mean, card.std), width, height)


def shown(data: bytes, side: int) -> bytes:
    """A JPEG of at most `side` pixels a side; `ImageError` where the image is damaged."""
    image = Image.fromarray(decode_image(data, min_side=side))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return out.getvalue()


def _stated_size(data: bytes, most_pixels: int) -> tuple[int, int]:
    """Width and height by the header alone."""
    try:
        header = jpeg_header(data) if data[:3] == b"\xff\xd8\xff" else None
        if header is not None:
            return header[1], header[0]
        with open_image(data) as image:
            return image.width, image.height
    except ImageError as error:
        if error.kind == "image-too-large":
            raise _too_large(most_pixels) from None
        raise ImageError(error.kind, f"the file cannot be used: {error}") from None


def _too_large(most_pixels: int, size: str = "") -> ImageError:
    return ImageError(
        "image-too-large", f"the image's {size}pixels exceed the bound of {most_pixels:,}"
    )
