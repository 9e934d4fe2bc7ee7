"""What an image is, and whether it decodes as training will decode it.

Everything is decoded once, JPEGs scaled down by libjpeg-turbo: only so is a truncated or damaged
image found. What the header alone forbids is refused before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from tijepa.data.images import (
    check_size,
    jpeg_header,
    jpeg_orientation,
    open_image,
    orientation_of,
    to_rgb,
    undecodable,
    upright,
)
from tijepa.errors import ImageError

TINY = 16  # pixels of the shorter side below which an image shows hardly anything
EXTREME_ASPECT = 8  # longer side over shorter side above which a square crop shows hardly anything

_turbo: Any = simplejpeg  # its stubs do not export its functions
_TURBO_ERRORS = (ValueError, KeyError)
_HASH_SIDE = 32  # pixels of the shorter side that suffice for the hash
_BLACK = 4  # of 255
_PNG_DEPTH = 24  # where the bits per channel stand in a PNG
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image that decodes. `width` and `height` are those after EXIF rotation.

    `mode` is Pillow's, with ";16" behind it where a channel has 16 bits. `difference_hash` is the
    64-bit dHash (each bit: is a pixel of a 9 x 8 grey thumbnail brighter than its right
    neighbour), by which near duplicates are found.
    """

    width: int
    height: int
    format: str
    mode: str
    frames: int
    orientation: int
    difference_hash: int
    brightest: int = 255  # grey level of the brightest of 72 fields, the image's mean in each


def look_at_image(data: bytes) -> ImageFacts:
    """Decode the first frame of `data`; `ImageError` if training could not use it."""
    if data[:3] == b"\xff\xd8\xff":
        facts = _look_at_jpeg(data)
        if facts is not None:
            return facts
    return _look_with_pillow(data)


def peculiarities(facts: ImageFacts) -> Iterator[tuple[str, str]]:
    """Kind and reason of everything worth knowing about an image that can be used."""
    if facts.frames > 1:
        yield "image-animated", f"{facts.frames} frames or pages: only the first is used"
    if facts.orientation != 1:
        yield "image-rotated", f"EXIF orientation {facts.orientation}: turned upright when read"
    if facts.mode == "CMYK":
        yield "image-cmyk", "CMYK colours: converted to RGB when read"
    if ";16" in facts.mode or facts.mode.startswith("I"):
        yield "image-16-bit", "16 bits a channel: the high 8 of those in use count"
    if facts.mode.split(";")[0] in _ALPHA:
        yield "image-alpha", "transparency: put on white when read"
    if facts.mode == "P":
        yield "image-palette", "palette colours: converted to RGB when read"
    if facts.brightest < _BLACK:
        yield "image-black", f"no field is brighter than {facts.brightest} of 255: all but black"
    shorter, longer = sorted((facts.width, facts.height))
    if shorter < TINY:
        yield "image-tiny", f"{facts.width} x {facts.height} pixels: a side is below {TINY}"
    if longer > EXTREME_ASPECT * shorter:
        reason = f"{facts.width} x {facts.height} pixels: sides above {EXTREME_ASPECT} : 1"
        yield "image-extreme-aspect", reason


def _look_at_jpeg(data: bytes) -> ImageFacts | None:
    """Facts by libjpeg-turbo, or None where Pillow should decide, as in `decode_image`."""
    header = jpeg_header(data)
    if header is None:
        return None
    height, width, colours = header
    least = _HASH_SIDE if min(height, width) > _HASH_SIDE else 0
    try:
        grey = _turbo.decode_jpeg(
            data, colorspace="GRAY", min_height=least, min_width=least, strict=True
        )
    except _TURBO_ERRORS:
        return None
    size = (grey.shape[1], grey.shape[0])
    image = Image.frombuffer("L", size, grey, "raw", "L", 0, 1)
    mode = "L" if colours == "Gray" else "RGB"
    return _facts(image, height, width, "JPEG", mode, 1, jpeg_orientation(data))


def _look_with_pillow(data: bytes) -> ImageFacts:
    with open_image(data) as image:
        check_size(image.height, image.width)
        kind, mode, frames = image.format or "unknown", image.mode, _frames(image)
        if kind == "PNG" and data[_PNG_DEPTH] == 16 and ";16" not in mode:
            mode += ";16"  # Pillow hands out the high bytes of such colours
        try:
            stated = orientation_of(image)
            image.load()
            plain = image.mode in ("L", "RGB") and "transparency" not in image.info
            grey = image if plain else Image.fromarray(to_rgb(image))
            left = orientation_of(image)  # Pillow turns TIFFs by itself when loading them
            facts = _facts(grey, image.height, image.width, kind, mode, frames, left)
            return facts if stated == left else replace(facts, orientation=stated)
        except ImageError:
            raise
        except Exception as error:  # noqa: BLE001 (decoders raise anything on damaged bytes)
            raise undecodable(error) from None


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1)) if getattr(image, "is_animated", False) else 1
    except Exception:  # noqa: BLE001 (a damaged later frame says nothing of the first)
        return 1


def _facts(
    image: Image.Image, height: int, width: int, kind: str, mode: str, frames: int, orientation: int
) -> ImageFacts:
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    small = _thumbnail(image, orientation)
    return ImageFacts(
        width=width,
        height=height,
        format=kind,
        mode=mode,
        frames=frames,
        orientation=orientation,
        difference_hash=_difference_hash(small, orientation),
        brightest=int(small.max()),
    )


def _thumbnail(image: Image.Image, orientation: int) -> NDArray[np.uint8]:
    """Grey means of 8 x 9 fields, 9 x 8 where the image lies on its side; `image` as stored."""
    size = (8, 9) if orientation in (5, 6, 7, 8) else (9, 8)
    small = image.resize(size, Image.Resampling.BOX)
    if small.mode != "L":
        small = small.convert("L")
    return np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(size[1], size[0])


def _difference_hash(small: NDArray[np.uint8], orientation: int) -> int:
    """dHash of the upright thumbnail."""
    pixels = small if orientation == 1 else upright(small, orientation)
    brighter = pixels[:, :-1] > pixels[:, 1:]
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")
