from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tijepa.data.store.schema import pack, unpack

IMAGES = st.one_of(st.none(), st.binary(min_size=1, max_size=50))
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4)


@given(IMAGES, TEXTS)
def test_what_was_packed_is_unpacked(image: bytes | None, captions: list[str]) -> None:
    assert unpack(pack(image, captions)) == (image, tuple(captions))


def test_the_bytes_are_image_then_captions_then_their_length() -> None:
    """`["ä"]` is 6 bytes in UTF-8: two brackets, two quotes and two bytes of ä."""
    assert pack(b"image", ("ä",)) == b'image["\xc3\xa4"]\x06\x00\x00\x00'
    assert pack(None, ()) == b"[]\x02\x00\x00\x00"


def test_other_tools_open_the_image_as_it_stands() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        file = io.BytesIO()
        Image.new("RGB", (5, 3), "red").save(file, kind)
        with Image.open(io.BytesIO(pack(file.getvalue(), ("a caption",)))) as image:
            image.load()
            assert (image.format, image.size) == (kind, (5, 3))
