"""Bytes to pixels to normalised tensors: decode, crop, resize.

Baseline and progressive JPEGs are decoded by libjpeg-turbo, scaled down while decoding; everything
else goes through Pillow. Pixels are uint8 (height, width, 3) RGB, upright (EXIF applied), on white.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tijepa.data.pairs import StoredImage
from tijepa.errors import ImageError

_turbo: Any = simplejpeg  # its stubs do not export its functions
_TURBO_ERRORS = (ValueError, KeyError)  # KeyError: colours or subsampling of no known kind

Pixels = NDArray[np.uint8]

MAX_PIXELS = 100_000_000  # larger images are refused from their header, before decoding

_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
_ORIENTATION = 0x0112  # EXIF tag
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MAGIC = (_JPEG, b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class Crop:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class EncodedImage(StoredImage):
    """The bytes of an image file, decoded when its pixels are asked for."""

    data: bytes

    def pixels(self, min_side: int) -> Pixels:
        """See `Image.pixels` and `decode_image`."""
        return decode_image(self.data, min_side)


def centre_crop(height: int, width: int) -> Crop:
    """The largest square in the middle."""
    side = min(height, width)
    return Crop(top=(height - side) // 2, left=(width - side) // 2, height=side, width=side)


def random_crop(height: int, width: int, *, area: float, aspect: float, x: float, y: float) -> Crop:
    """A crop of `area` (a share of the largest square) and aspect `aspect` = width / height.

    x and y in [0, 1) place it. Each side is clipped to the image and at least one pixel.
    """
    side = min(height, width)
    crop_height = min(height, max(1, round(side * math.sqrt(area / aspect))))
    crop_width = min(width, max(1, round(side * math.sqrt(area * aspect))))
    return Crop(
        top=int(y * (height - crop_height + 1)),
        left=int(x * (width - crop_width + 1)),
        height=crop_height,
        width=crop_width,
    )


def resize_crop(pixels: Pixels, crop: Crop, size: int, flip: bool = False) -> Pixels:
    """Cut out `crop` and resize it to (size, size, 3), bicubic with antialiasing; mirror if `flip`.

    A crop that already has that size is copied without resampling.
    """
    cut = pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    if cut.shape[:2] != (size, size):
        planes = torch.from_numpy(np.require(cut, requirements=["C", "W"])).permute(2, 0, 1)[None]
        resized = F.interpolate(planes, size=(size, size), mode="bicubic", antialias=True)
        cut = resized[0].permute(1, 2, 0).numpy()
    return cut[:, ::-1] if flip else cut


def centre_square(pixels: Pixels, size: int) -> Pixels:
    """The largest square in the middle as (size, size, 3): what a model sees of a whole image."""
    return resize_crop(pixels, centre_crop(*pixels.shape[:2]), size)


def prepare(
    pixels: Pixels,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    crop: Crop | None = None,
    flip: bool = False,
    out: NDArray[np.float32] | None = None,
) -> Float[Tensor, "3 s s"]:
    """An image as the input of a model: cropped, resized, normalised.

    Without `crop` it is the largest centred square; `out` (3, s, s) is written to where given.
    """
    cut = resize_crop(pixels, crop or centre_crop(*pixels.shape[:2]), size, flip)
    row = np.empty((3, size, size), dtype=np.float32) if out is None else out
    _normalise_into(row, cut, mean, std)
    return torch.from_numpy(row)


def normalise(
    pixels: Pixels, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
) -> Float[Tensor, "b 3 h w"]:
    """uint8 (b, h, w, 3) to float32: values in [0, 1] become (value - mean) / std, by channel.

    As it stands 0 becomes -1 and 255 becomes 1.
    """
    b, h, w, _ = pixels.shape
    result = np.empty((b, 3, h, w), dtype=np.float32)
    for row, own in zip(result, pixels, strict=True):
        _normalise_into(row, own, mean, std)
    return torch.from_numpy(result)


def _normalise_into(
    row: NDArray[np.float32], pixels: Pixels, mean: Sequence[float], std: Sequence[float]
) -> None:
    """The same for one image (h, w, 3), written to `row` (3, h, w)."""
    scale = np.array([1 / (255 * value) for value in std], dtype=np.float32)
    shift = np.array([m / s for m, s in zip(mean, std, strict=True)], dtype=np.float32)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    np.multiply(planes, scale[:, None, None], out=row)
    row -= shift[:, None, None]


def decode_image(data: bytes, min_side: int = 0) -> Pixels:
    """Decode the first frame of `data`; `DataError` with a one-line reason if it cannot be.

    JPEGs are scaled down to 1/2, 1/4 or 1/8 while decoding as far as the shorter side stays at
    least `min_side`; 0 keeps the full size.
    """
    if data[:3] == _JPEG:
        pixels = _decode_jpeg(data, min_side)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data)


def pixels_of(image: Image.Image) -> Pixels:
    """Pixels of an opened Pillow image: turned upright by its EXIF, transparency put on white.

    Raises `DataError` with a one-line reason if it cannot be decoded.
    """
    check_size(image.height, image.width)
    try:
        image.load()
        pixels = to_rgb(image)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 (decoders raise anything on damaged bytes)
        raise undecodable(error) from None
    return upright(pixels, orientation_of(image))


def check_size(height: int, width: int) -> None:
    """Refuse what a header says before anything is decoded; raises `ImageError`."""
    if height < 1 or width < 1:
        raise ImageError("image-header-damaged", f"image of {width} x {height} pixels")
    if height * width > MAX_PIXELS:
        reason = f"{width} x {height} pixels exceed the bound of {MAX_PIXELS:,}"
        raise ImageError("image-too-large", reason)


def undecodable(error: Exception) -> ImageError:
    """What a decoder raised, as the error of this package."""
    reason = _first_line(error)
    truncated = "truncated" in reason or "premature end" in reason.lower()
    kind = "image-truncated" if truncated else "image-damaged"
    return ImageError(kind, f"cannot be decoded: {reason}")


def _decode_jpeg(data: bytes, min_side: int) -> Pixels | None:
    """Pixels by libjpeg-turbo, or None where Pillow should decide (CMYK, damage)."""
    header = jpeg_header(data)
    if header is None:
        return None
    height, width, _ = header
    divisor = _divisor(min(height, width), min_side)
    try:
        pixels: Pixels = _turbo.decode_jpeg(
            data,
            colorspace="RGB",
            min_height=-(-height // divisor),
            min_width=-(-width // divisor),
            strict=True,
        )
    except _TURBO_ERRORS:
        return None
    return upright(pixels, jpeg_orientation(data))


def decode_damaged(data: bytes, min_side: int) -> Pixels | None:
    """What can be seen of a JPEG of sound header that does not decode; None where nothing can."""
    try:
        header = jpeg_header(data) if data[:3] == _JPEG else None
        if header is None:
            return None
        least = min_side if 0 < min_side < min(header[:2]) else 0
        pixels: Pixels = _turbo.decode_jpeg(
            data, colorspace="RGB", min_height=least, min_width=least, strict=False
        )
    except (ImageError, *_TURBO_ERRORS):
        return None
    return pixels


def viewable(data: bytes | None, min_side: int) -> Pixels | None:
    """What can be shown of an image, also where its end is missing; None where nothing can."""
    if not data:
        return None
    try:
        return decode_image(data, min_side)
    except ImageError as error:
        if error.kind not in ("image-truncated", "image-damaged"):
            return None
    return decode_damaged(data, min_side)


def jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and colour space of a JPEG that libjpeg-turbo decodes.

    None where Pillow should decide: CMYK, damage. Raises `ImageError` if it is too large.
    """
    try:
        height, width, colours, _ = _turbo.decode_jpeg_header(data, strict=True)
    except _TURBO_ERRORS:
        return None
    if colours in ("CMYK", "YCCK"):
        return None
    check_size(height, width)
    return height, width, colours


def jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG whose header is sound; 1, upright, where it has none."""
    if not _has_exif(data):
        return 1
    with open_image(data) as image:
        return orientation_of(image)


def _has_exif(data: bytes) -> bool:
    """Whether a segment before the pixels holds EXIF data, however much stands before it."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        mark = data[place + 1]
        if mark in (0xDA, 0xD9):  # the pixels, the end
            return False
        if mark == 0xE1 and data[place + 4 : place + 9] == b"Exif\x00":
            return True
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        place += 1 if mark == 0xFF else 2 if mark == 1 or 0xD0 <= mark <= 0xD8 else 2 + length
    return False


def _divisor(side: int, min_side: int) -> int:
    """The largest of 8, 4, 2 that leaves a side of at least `min_side`, else 1.

    libjpeg-turbo also scales by 3/8, 5/8 and so on, but those take longer than the full size: only
    powers of two have vector code.
    """
    for divisor in (8, 4, 2):
        if 0 < min_side <= -(-side // divisor):
            return divisor
    return 1


def _decode_with_pillow(data: bytes) -> Pixels:
    with open_image(data) as image:
        return pixels_of(image)


def open_image(data: bytes) -> Image.Image:
    """Read the header of `data`; `ImageError` if it is no image or one of too many pixels."""
    if not data:
        raise ImageError("image-empty", "the image has no bytes")
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":  # Pillow allots its canvas on opening
        sides = (int.from_bytes(data[27:30], "little"), int.from_bytes(data[24:27], "little"))
        check_size(1 + sides[0], 1 + sides[1])
    _silence_pillow()
    Image.init()
    known = ["PNG"] if data[:8] == _PNG else [name for name in _FORMATS if name in Image.OPEN]
    try:
        return Image.open(io.BytesIO(data), formats=known)
    except Image.DecompressionBombError:
        reason = f"pixels exceed the bound of {MAX_PIXELS:,}"
        raise ImageError("image-too-large", reason) from None
    except UnidentifiedImageError:
        if known != ["PNG"] and not data.startswith(_MAGIC):
            raise ImageError("image-unknown-format", _format_told(data)) from None
        raise ImageError("image-header-damaged", "header is damaged") from None
    except Exception as error:  # noqa: BLE001 (plugins raise anything on damaged headers)
        reason = f"header is damaged: {_first_line(error)}"
        raise ImageError("image-header-damaged", reason) from None


_FOREIGN = (
    ((b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "HEIC, which is not read: convert it to"),
    ((b"jxl ",), "JPEG XL, which is not read: convert it to"),
    ((b"<svg",), "SVG, a drawing without pixels: render it as"),
    ((b"%pdf",), "PDF, no image: render its pages as"),
    ((b"<!doctype html", b"<html"), "a page of HTML, perhaps a failed download: get it anew as"),
)


def _format_told(data: bytes) -> str:
    """What bytes that are no image of a known format are, as far as their beginning tells."""
    start = b"jxl " if data.startswith(b"\xff\x0a") else data[:256].lower()
    told = (
        f"is {words} JPEG or PNG" for marks, words in _FOREIGN if any(m in start for m in marks)
    )
    return next(told, "not an image of a known format")


def _silence_pillow() -> None:
    """Pillow's warnings about single files are of no use: what matters is raised as an error.

    A filter rather than a `catch_warnings` block, which is not safe with several threads.
    """
    pattern = r"PIL\."
    present = any(
        action == "ignore" and getattr(module, "pattern", None) == pattern
        for action, _, _, module, _ in warnings.filters[:8]
    )
    if not present:
        warnings.filterwarnings("ignore", module=pattern)


def to_rgb(image: Image.Image) -> Pixels:
    """Eight bits a channel, transparency on white; `ImageError` for floating-point pixels.

    Of grey of 16 or 32 bits the high 8 of those that its largest value needs count, of 8, 10, 12
    and 16: cameras and label masks use fewer bits than the file has.
    """
    mode = image.mode
    if mode.startswith("I"):
        values = np.maximum(np.asarray(image).astype(np.int64), 0)
        largest = int(values.max(initial=0)).bit_length()
        used = next((bits for bits in (8, 10, 12, 16) if largest <= bits), largest)
        grey = (values >> (used - 8)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode == "F":
        reason = "floating-point pixels are not supported: save it with 8 bits a channel"
        raise ImageError("image-float", reason)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colour)
    return np.array(image.convert("RGB"))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it is damaged."""
    if image.format == "PNG" and not image.info:  # no metadata: spare the search
        return 1
    try:
        value: Any = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (damaged EXIF raises anything, and says nothing of the pixels)
        return 1
    return value if isinstance(value, int) else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the eight EXIF orientations."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
