"""Small pictures for the page, as data URIs; also of what is left of a truncated picture."""

from __future__ import annotations

import base64
import io

from PIL import Image

from tijepa.data.images import decode_image
from tijepa.errors import DataError

__all__ = ["thumbnail"]

_SIDE = 180  # pixels of the longer side


def thumbnail(data: bytes | None) -> str | None:
    """A JPEG of at most 180 pixels a side as data URI; None where there is nothing to show."""
    if not data:
        return None
    try:
        image = Image.fromarray(decode_image(data, _SIDE))
    except DataError:
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
