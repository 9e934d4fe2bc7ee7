from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tijepa.data.validation.thumbnails import thumbnail


def noise(kind: str, width: int = 640, height: int = 480) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def shown(data: bytes) -> Image.Image:
    uri = thumbnail(data)
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_longer_side_becomes_180_pixels(kind: str) -> None:
    assert shown(noise(kind)).size == (180, 135)


def test_small_images_are_not_enlarged() -> None:
    assert shown(noise("PNG", 20, 10)).size == (20, 10)


def test_of_a_truncated_jpeg_the_rest_is_shown() -> None:
    """Half the bytes: noise above, one even grey below."""
    data = noise("JPEG")
    pixels = np.asarray(shown(data[: len(data) // 2]).convert("L")).astype(float)
    assert pixels[:30].std() > 5
    assert pixels[-30:].std() < 5


@pytest.mark.parametrize("data", [None, b"", b"text", noise("PNG")[:-3000]])
def test_where_nothing_can_be_shown_there_is_no_thumbnail(data: bytes | None) -> None:
    assert thumbnail(data) is None
