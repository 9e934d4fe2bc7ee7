"""What both sides share: the shape of the towers, the images and the texts."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from tijepa.data.scenes import Scenes

VOCABULARY = 8192


@dataclass(frozen=True)
class Shape:
    """Towers of one width, depth and number of heads; `size` pixels a side, `tokens` of context."""

    width: int = 192
    depth: int = 12
    heads: int = 3
    size: int = 224
    patch: int = 16
    tokens: int = 77


def photos(count: int) -> list[Image.Image]:
    """Decoded RGB images of 500 x 375 pixels, as most photos of the Flickr sets are."""
    scenes = Scenes("test", count, image_size=375)
    drawn = [Image.fromarray(scenes.image(index, 375)) for index in range(count)]
    return [image.resize((500, 375)) for image in drawn]


def captions(split: str, count: int) -> list[str]:
    """One caption each of the first scenes of a split, of 5 to 35 words and signs."""
    scenes = Scenes(split, count)
    return [scenes.captions(index)[index % 5] for index in range(count)]
