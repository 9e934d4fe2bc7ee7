from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tijepa.data.images import (
    MAX_PIXELS,
    Crop,
    centre_crop,
    centre_square,
    decode_image,
    normalise,
    random_crop,
    resize_crop,
)
from tijepa.errors import DataError, ImageError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def quadrants(height: int = 32, width: int = 48) -> Image.Image:
    """Red, green over blue, white."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    half, middle = height // 2, width // 2
    pixels[:half, :middle], pixels[:half, middle:] = RED, GREEN
    pixels[half:, :middle], pixels[half:, middle:] = BLUE, WHITE
    return Image.fromarray(pixels)


def corners(pixels: np.ndarray) -> list[list[int]]:
    """Colours near the four corners, rounded to 0 or 255."""
    h, w = pixels.shape[:2]
    points = [(h // 8, w // 8), (h // 8, -w // 8), (-h // 8, w // 8), (-h // 8, -w // 8)]
    return [[255 if value > 127 else 0 for value in pixels[point]] for point in points]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_lossless_formats_keep_their_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_image(encode(quadrants(), kind, **options))
    assert np.array_equal(decoded, np.asarray(quadrants()))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}]
)
def test_jpegs_are_decoded(options: dict[str, Any]) -> None:
    decoded = decode_image(encode(quadrants(), "JPEG", **options))
    assert decoded.dtype == np.uint8
    assert decoded.shape == (32, 48, 3)
    assert corners(decoded) == [list(RED), list(GREEN), list(BLUE), list(WHITE)]


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 200), width=st.integers(1, 200), min_side=st.integers(0, 250))
def test_scaled_decoding_keeps_the_shorter_side_at_the_minimum(
    height: int, width: int, min_side: int
) -> None:
    data = encode(Image.new("RGB", (width, height), RED), "JPEG")
    decoded = decode_image(data, min_side)
    shorter = min(height, width)
    assert min(decoded.shape[:2]) >= min(min_side or shorter, shorter)
    assert decoded.shape[0] <= height
    assert decoded.shape[1] <= width


def test_large_jpegs_are_scaled_down_while_decoding() -> None:
    data = encode(Image.new("RGB", (800, 640), BLUE), "JPEG")
    assert decode_image(data, 80).shape == (80, 100, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    """What a viewer sees is the stored image after the inverse of the orientation.

    Orientation 6 says: turn clockwise by 90 degrees to view; so we store it turned the other way.
    """
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = quadrants() if inverse is None else quadrants().transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(stored, kind, exif=exif))
    assert decoded.shape == (32, 48, 3)
    assert corners(decoded) == [list(RED), list(GREEN), list(BLUE), list(WHITE)]


def test_transparency_is_laid_on_white() -> None:
    """Red at alpha 127.5/255 on white: 255, and 0.5 * 0 + 0.5 * 255 = 127 or 128."""
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:2] = (255, 0, 0, 128)
    decoded = decode_image(encode(Image.fromarray(pixels), "PNG"))
    assert decoded[3, 0].tolist() == [255, 255, 255]
    assert decoded[0, 0, 0] == 255
    assert abs(int(decoded[0, 0, 1]) - 127) <= 1


def test_a_transparent_palette_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    decoded = decode_image(encode(image, "PNG", transparency=bytes([0, 255])))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[3, 3].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[(mode, "PNG") for mode in ("1", "L", "LA", "P")],
        *[(mode, "TIFF") for mode in ("1", "L", "LA", "P", "CMYK")],
        *[(mode, "JPEG") for mode in ("L", "CMYK")],
    ],
)
def test_other_colour_modes_become_rgb(mode: str, kind: str) -> None:
    image = Image.new("RGB", (16, 16), WHITE)
    image.paste((0, 0, 0), (0, 0, 8, 16))
    decoded = decode_image(encode(image.convert(mode), kind))
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded[:, :4].astype(int)).max() < 30
    assert np.abs(decoded[:, 12:].astype(int) - 255).max() < 30


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], dtype=np.uint16)
    decoded = decode_image(encode(Image.fromarray(values), "PNG"))
    assert decoded[:, :, 0].tolist() == [[0, 0, 1], [128, 255, 255]]
    assert (decoded[:, :, 0] == decoded[:, :, 2]).all()


def test_animations_show_their_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data)[4, 4].tolist() == list(RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_truncated_images_are_refused_in_one_line(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(DataError) as caught:
        decode_image(data[: len(data) // 2])
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
def test_damaged_bytes_give_pixels_or_a_data_error(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(encode(quadrants(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_image(bytes(damaged))
    except DataError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        decode_image(data)


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_from_the_header(width: int, height: int) -> None:
    data = png_of_size(width, height)
    with pytest.raises(DataError, match=f"exceed the bound of {MAX_PIXELS:,}"):
        decode_image(data)


def test_large_jpegs_are_refused_from_the_header() -> None:
    """The frame header (marker FF C0) holds height and width after its length and precision."""
    data = bytearray(encode(quadrants(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (20_000).to_bytes(2, "big") * 2
    with pytest.raises(DataError, match="20000 x 20000 pixels exceed"):
        decode_image(bytes(data))


def test_warnings_of_the_decoder_do_not_leak() -> None:
    """Between 89 and 100 megapixels Pillow warns of a decompression bomb."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_image(png_of_size(9_500, 10_000))
    assert seen == []


def test_a_frame_header_behind_long_metadata_is_found() -> None:
    data = encode(quadrants(), "JPEG", icc_profile=bytes(150_000))
    assert decode_image(data).shape == (32, 48, 3)


def test_bytes_after_the_end_of_a_jpeg_are_no_damage() -> None:
    data = encode(quadrants(), "JPEG") + bytes(10_000)
    assert decode_image(data).shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "image-empty"),
        (b"plain text", "image-unknown-format"),
        (encode(quadrants(), "JPEG")[:-8], "image-truncated"),
        (encode(quadrants(), "PNG")[:-40], "image-truncated"),
        (b"\xff\xd8\xff" + bytes(100) + b"\xff\xd9", "image-header-damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100) + b"IEND", "image-header-damaged"),
        (png_of_size(0, 5), "image-header-damaged"),
        (png_of_size(10_001, 10_000), "image-too-large"),
    ],
)
def test_the_kind_of_damage_is_told(content: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(content)
    assert caught.value.kind == kind


sides = st.integers(1, 300)
unit = st.floats(0, 1, exclude_max=True)


@settings(deadline=None)
@given(sides, sides, st.floats(0.01, 1), st.floats(0.75, 4 / 3), unit, unit)
def test_random_crops_lie_inside_the_image(
    height: int, width: int, area: float, aspect: float, x: float, y: float
) -> None:
    crop = random_crop(height, width, area=area, aspect=aspect, x=x, y=y)
    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width


def test_a_random_crop_has_the_area_and_aspect_asked_for() -> None:
    """Largest square 400 x 400; a quarter of it at 4:3 is 231 x 173 (area 40,000)."""
    crop = random_crop(400, 600, area=0.25, aspect=4 / 3, x=0.0, y=0.999)
    assert crop == Crop(top=227, left=0, height=173, width=231)


def test_the_centre_crop_is_the_largest_square_in_the_middle() -> None:
    assert centre_crop(30, 50) == Crop(top=0, left=10, height=30, width=30)
    assert centre_crop(7, 4) == Crop(top=1, left=0, height=4, width=4)


def test_resizing_keeps_the_layout_and_mirrors_on_request() -> None:
    pixels = np.asarray(quadrants(64, 64))
    small = resize_crop(pixels, centre_crop(64, 64), 16)
    assert small.shape == (16, 16, 3)
    assert corners(small) == [list(RED), list(GREEN), list(BLUE), list(WHITE)]
    mirrored = resize_crop(pixels, centre_crop(64, 64), 16, flip=True)
    assert np.array_equal(mirrored, small[:, ::-1])


def test_a_crop_of_the_right_size_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(resize_crop(pixels, centre_crop(20, 30), 20), pixels[:, 5:25])
    assert np.array_equal(centre_square(pixels, 20), pixels[:, 5:25])


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 80), width=st.integers(1, 80), grey=st.integers(0, 255))
def test_resizing_a_uniform_image_changes_nothing(height: int, width: int, grey: int) -> None:
    pixels = np.full((height, width, 3), grey, dtype=np.uint8)
    assert (resize_crop(pixels, centre_crop(height, width), 24) == grey).all()


def test_normalised_pixels_lie_between_minus_one_and_one() -> None:
    pixels = np.zeros((2, 4, 5, 3), dtype=np.uint8)
    pixels[1, 2, 3] = (255, 51, 0)
    images = normalise(pixels)
    assert images.shape == (2, 3, 4, 5)
    assert images.is_contiguous()
    assert torch.allclose(images[1, :, 2, 3], torch.tensor([1.0, -0.6, -1.0]))
    assert (images[0] == -1).all()


def test_the_default_normalisation_is_bit_for_bit_twice_the_value_less_one() -> None:
    pixels = np.arange(768, dtype=np.uint8).reshape(1, 16, 16, 3)
    expected = pixels.transpose(0, 3, 1, 2) * np.float32(2 / 255) - np.float32(1)
    assert normalise(pixels).numpy().tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize(
    ("side", "expected"), [(0, 603), (302, 302), (303, 603), (76, 76), (9, 76)]
)
def test_jpegs_are_scaled_by_powers_of_two_only(side: int, expected: int) -> None:
    """603 / 2 = 301.5 and 603 / 8 = 75.4 are rounded up, and 1/8 is the least."""
    data = encode(Image.new("RGB", (700, 603), BLUE), "JPEG")
    assert decode_image(data, side).shape[0] == expected


def test_real_photos_decode_as_the_slow_path_does(real_data: Path) -> None:
    for path in sorted((real_data / "data/flickr8k/images").iterdir())[:20]:
        reference = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(decode_image(path.read_bytes()).astype(int) - reference).mean() < 2
