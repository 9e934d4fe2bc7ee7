"""Small images for the page, as data URIs; also of what is left of a truncated image."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tijepa.data.images import decode_damaged, decode_image
from tijepa.errors import ImageError

__all__ = ["thumbnail"]

_SIDE = 180  # pixels of the longer side


def thumbnail(data: bytes | None) -> str | None:
    """A JPEG of at most 180 pixels a side as data URI; None where there is nothing to show."""
    if not data:
        return None
    pixels = _pixels(data)
    if pixels is None:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _pixels(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return decode_image(data, _SIDE)
    except ImageError as error:
        if error.kind not in ("image-truncated", "image-damaged"):
            return None
    return decode_damaged(data, _SIDE)
