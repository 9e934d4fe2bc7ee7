from __future__ import annotations

import hashlib
import io
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tijepa.data.images import MAX_PIXELS, decode_image
from tijepa.data.records import Record
from tijepa.data.validation.check import MAX_CAPTION, Checked, check_record
from tijepa.errors import DataError


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Smooth colours, as in a photo: 6 x 5 random points, interpolated."""
    points = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(points).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def check(image: bytes | None, *captions: Any) -> Checked:
    return check_record(Record("i1", "captions.csv line 2", image, captions))


def kinds(checked: Checked) -> list[str]:
    return [finding.kind for finding in checked.findings]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg_of_size(width: int, height: int) -> bytes:
    """The frame header (marker FF C0) holds height and width behind its length and precision."""
    data = bytearray(encode(photo(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WebP holds width - 1 and height - 1 in 3 bytes each, from byte 24 on."""
    frames = [photo(seed=1), photo(seed=2)]
    data = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    """A BMP holds width and height from byte 18 on."""
    data = bytearray(encode(photo(), "BMP"))
    data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(data)


def tiff_of_size(width: int, height: int) -> bytes:
    """Tags 256 and 257, each 12 bytes: tag, type, count, value."""
    data = bytearray(encode(photo(), "TIFF"))
    start = int.from_bytes(data[4:8], "little") + 2
    for tag, value in ((256, width), (257, height)):
        place = data.index(tag.to_bytes(2, "little"), start)
        data[place + 2 : place + 12] = (
            (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        )
    return bytes(data)


def test_a_sound_pair_has_no_findings() -> None:
    data = encode(photo(), "JPEG")
    checked = check(data, "a dog", "ein Hund")
    assert checked.findings == ()
    assert checked.sound is not None
    assert checked.sound.captions == ("a dog", "ein Hund")
    assert checked.sound.content_hash == hashlib.blake2b(data, digest_size=16).hexdigest()
    facts = checked.sound.image
    assert facts is not None
    assert (facts.width, facts.height, facts.format, facts.mode) == (64, 48, "JPEG", "RGB")
    assert (facts.frames, facts.orientation) == (1, 1)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "image-empty"),
        (b"plain text", "image-unknown-format"),
        (b"PK\x03\x04" + bytes(300), "image-unknown-format"),
        (encode(photo(), "JPEG")[:400], "image-header-damaged"),
        (encode(photo(), "JPEG")[:-20], "image-truncated"),
        (encode(photo(), "PNG")[:-300], "image-truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image-header-damaged"),
        (png_of_size(0, 5), "image-header-damaged"),
        (encode(Image.new("F", (20, 20)), "TIFF"), "image-float"),
    ],
)
def test_an_item_whose_image_is_broken_is_rejected_whole(data: bytes, kind: str) -> None:
    """Its caption must not silently become a text without image."""
    checked = check(data, "a dog")
    assert checked.sound is None
    assert kinds(checked) == [kind]
    finding = checked.findings[0]
    assert finding.rejected
    assert (finding.item, finding.reference) == ("i1", "captions.csv line 2")
    assert finding.reason
    assert "\n" not in finding.reason


@pytest.mark.parametrize(
    "bomb", [png_of_size, jpeg_of_size, webp_of_size, bmp_of_size, tiff_of_size]
)
def test_bombs_are_refused_from_their_header(bomb: Any) -> None:
    checked = check(bomb(30_000, 30_000), "a dog")
    assert kinds(checked) == ["image-too-large"]
    assert f"{MAX_PIXELS:,}" in checked.findings[0].reason


def rotated(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = photo().transpose(Image.Transpose.ROTATE_90)
    return encode(turned, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_width_height_and_hash_are_those_of_the_upright_image(kind: str) -> None:
    """Stored turned left by 90 degrees, orientation 6 turns it right again: 64 x 48."""
    checked = check(rotated(6, kind))
    assert kinds(checked) == ["image-rotated"]
    assert checked.sound is not None
    facts = checked.sound.image
    plain = check(encode(photo(), kind)).sound
    assert facts is not None
    assert plain is not None
    assert plain.image is not None
    assert (facts.width, facts.height, facts.orientation) == (64, 48, 6)
    assert (facts.difference_hash ^ plain.image.difference_hash).bit_count() <= 3


def many_frames(kind: str) -> bytes:
    return encode(photo(), kind, save_all=True, append_images=[photo(seed=2)])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (many_frames("GIF"), "image-animated"),
        (many_frames("WEBP"), "image-animated"),
        (many_frames("TIFF"), "image-animated"),
        (encode(photo().convert("CMYK"), "JPEG"), "image-cmyk"),
        (encode(Image.new("I;16", (20, 20)), "PNG"), "image-16-bit"),
        (encode(photo().convert("RGBA"), "PNG"), "image-alpha"),
        (encode(photo().convert("P"), "PNG"), "image-palette"),
        (encode(photo(15, 20), "PNG"), "image-tiny"),
        (encode(photo(400, 40), "JPEG"), "image-extreme-aspect"),
    ],
)
def test_peculiar_images_are_noted_but_kept(data: bytes, kind: str) -> None:
    checked = check(data, "a dog")
    assert checked.sound is not None
    assert kind in kinds(checked)
    assert not any(finding.rejected for finding in checked.findings)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (128, 16)])
def test_bounds_of_notes_are_exclusive(width: int, height: int) -> None:
    """A side of 16 pixels is not below 16, 128 : 16 is not above 8 : 1."""
    assert kinds(check(encode(photo(width, height), "JPEG"))) == []


def test_the_difference_hash_is_that_of_the_definition() -> None:
    """On 9 x 8 grey pixels the thumbnail is the image itself."""
    grey = np.random.default_rng(3).integers(0, 256, (8, 9), dtype=np.uint8)
    bits = "".join(
        "1" if grey[row, column] > grey[row, column + 1] else "0"
        for row in range(8)
        for column in range(8)
    )
    sound = check(encode(Image.fromarray(grey), "PNG")).sound
    assert sound is not None
    assert sound.image is not None
    assert sound.image.difference_hash == int(bits, 2)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (640, 480)])
def test_formats_and_sizes_hardly_change_the_hash(width: int, height: int) -> None:
    def hash_of(data: bytes) -> int:
        sound = check(data).sound
        assert sound is not None
        assert sound.image is not None
        return sound.image.difference_hash

    reference = hash_of(encode(photo(320, 240), "PNG"))
    for kind in ("JPEG", "WEBP", "PNG"):
        assert (hash_of(encode(photo(width, height), kind)) ^ reference).bit_count() <= 3


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("", "caption-blank"),
        (" \t\n\u3000", "caption-blank"),
        (None, "caption-not-text"),
        (3.5, "caption-not-text"),
        (["a dog"], "caption-not-text"),
        (b"a dog", "caption-not-text"),
        ("half a pair \ud83d", "caption-invalid-unicode"),
        ("x" * (MAX_CAPTION + 1), "caption-too-long"),
    ],
)
def test_an_invalid_caption_is_dropped_alone(caption: Any, kind: str) -> None:
    checked = check(encode(photo(), "JPEG"), "a dog", caption, "a cat")
    assert checked.sound is not None
    assert checked.sound.captions == ("a dog", "a cat")
    assert kinds(checked) == [kind]
    assert checked.findings[0].reason.startswith("caption 2 of 3 ")
    assert not checked.findings[0].rejected


def test_the_longest_caption_is_kept() -> None:
    assert kinds(check(None, "x" * MAX_CAPTION)) == []


@pytest.mark.parametrize("image", [encode(photo(), "JPEG"), None])
def test_an_item_that_lost_all_captions_is_rejected(image: bytes | None) -> None:
    checked = check(image, "", 7)
    assert checked.sound is None
    assert kinds(checked) == ["caption-blank", "caption-not-text", "captions-all-invalid"]
    assert [finding.rejected for finding in checked.findings] == [False, False, True]


def test_an_item_that_never_had_captions_is_an_image_alone() -> None:
    checked = check(encode(photo(), "JPEG"))
    assert checked.sound is not None
    assert checked.sound.captions == ()


def test_an_item_of_nothing_is_rejected() -> None:
    assert kinds(check(None)) == ["item-empty"]
    assert check(None).sound is None


def test_texts_alone_are_hashed_by_their_captions() -> None:
    """The two captions "a", "b" are not the one caption "ab"."""
    hashes = [check(None, *captions).sound for captions in (("a", "b"), ("ab",), ("a", "b"))]
    first, second, third = [sound.content_hash for sound in hashes if sound is not None]
    assert first == third != second
    assert len(first) == 32


def test_nested_junk_is_named_by_its_type_alone() -> None:
    """The representation of 5,000 nested lists would exceed the recursion limit."""
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    checked = check(None, "a dog", nested)
    assert checked.findings[0].reason == "caption 2 of 2 is of type list, not text"


@settings(deadline=None, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]))
def test_the_check_accepts_exactly_what_training_can_decode(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(encode(photo(), kind))
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(damaged) // 2, len(damaged)))
    damaged_bytes = bytes(damaged[:cut])
    try:
        decode_image(damaged_bytes)
    except DataError:
        usable = False
    else:
        usable = True
    assert (check(damaged_bytes).sound is not None) == usable


@settings(deadline=None, max_examples=100)
@given(
    image=st.none() | st.binary(max_size=200),
    captions=st.lists(
        st.text(max_size=20)
        | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)
        | st.none()
        | st.integers()
        | st.lists(st.text(max_size=3), max_size=2),
        max_size=4,
    ),
)
def test_any_record_is_either_sound_or_rejected_with_a_reason(
    image: bytes | None, captions: list[Any]
) -> None:
    checked = check(image, *captions)
    reasons = [finding.reason for finding in checked.findings if finding.rejected]
    assert (checked.sound is None) == bool(reasons)
    if checked.sound is not None:
        dropped = sum(finding.kind.startswith("caption-") for finding in checked.findings)
        assert len(checked.sound.captions) + dropped == len(captions)


def test_real_photos_are_sound(real_data: Any) -> None:
    for path in sorted((real_data / "data/flickr8k/images").iterdir())[:50]:
        assert check(path.read_bytes(), "a photo").sound is not None
