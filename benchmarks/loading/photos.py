"""Images of 500 x 375 pixels that cost a decoder what photos cost: scenes, enlarged, textured.

At JPEG quality 87 with halved colour resolution a file has about 54 kB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tijepa.data.scenes import Scenes

__all__ = ["HEIGHT", "QUALITY", "WIDTH", "Photo", "make_photos"]

WIDTH, HEIGHT, QUALITY = 500, 375, 87
TEXTURE = ((1, 5.0), (2, 8.0), (4, 10.0), (16, 14.0))  # grain in pixels, deviation in grey levels


@dataclass(frozen=True)
class Photo:
    """One item: its name, the bytes of its file, its captions."""

    name: str
    jpeg: bytes
    captions: tuple[str, ...]


def make_photos(count: int) -> list[Photo]:
    """The same ones each time."""
    scenes = Scenes("train", count)
    photos = []
    for index, item in enumerate(scenes.read(range(count))):
        assert item.image is not None
        scene = Image.fromarray(item.image.pixels(64))
        pixels = np.asarray(scene.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        textured = Image.fromarray(np.clip(pixels + _texture(index), 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        textured.save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
        photos.append(Photo(f"{index:06d}", buffer.getvalue(), item.captions))
    return photos


def _texture(seed: int) -> np.ndarray:
    """Noise of several grains, (height, width, 1)."""
    generator = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    for grain, deviation in TEXTURE:
        shape = (HEIGHT // grain + 2, WIDTH // grain + 2)
        coarse = Image.fromarray(generator.normal(0, deviation, shape).astype(np.float32))
        size = (shape[1] * grain, shape[0] * grain)
        total += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))[:HEIGHT, :WIDTH]
    return total[:, :, None]
