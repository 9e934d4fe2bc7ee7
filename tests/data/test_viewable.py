from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tijepa.data.images import viewable


def noise(kind: str, width: int = 640, height: int = 480) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def shown(data: bytes) -> np.ndarray:
    pixels = viewable(data, 0)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_sound_image_is_shown_whole(kind: str) -> None:
    assert shown(noise(kind)).shape == (480, 640, 3)


def test_of_a_truncated_jpeg_the_rest_is_shown() -> None:
    """Half the bytes: noise above, one even grey below."""
    data = noise("JPEG")
    pixels = shown(data[: len(data) // 2]).astype(float)
    assert pixels[:100].std() > 5
    assert pixels[-100:].std() < 5


@pytest.mark.parametrize("data", [None, b"", b"text", noise("PNG")[:-3000]])
def test_where_nothing_can_be_shown_there_is_none(data: bytes | None) -> None:
    assert viewable(data, 180) is None
