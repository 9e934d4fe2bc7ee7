"""Picture and captions of an item as one value, so that reading an item is one access to the store.

The value is the picture file as it is, then the captions as a JSON list in UTF-8, then the length
of that list in 4 bytes, little-endian. An item without a picture has no bytes before the list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["pack", "unpack"]

_LENGTH = 4  # bytes


def pack(image: bytes | None, captions: Sequence[str]) -> bytes:
    """One value of both; `image` is a picture file, so never empty, or None."""
    assert image is None or image, "an empty file is no picture, and could not be told from None"
    texts = json.dumps(captions, ensure_ascii=False).encode()
    return b"".join((image or b"", texts, len(texts).to_bytes(_LENGTH, "little")))


def unpack(pair: bytes) -> tuple[bytes | None, tuple[str, ...]]:
    """What `pack` was given: the picture file or None, and the captions."""
    end = len(pair) - _LENGTH
    start = end - int.from_bytes(pair[end:], "little")
    return pair[:start] or None, tuple(json.loads(pair[start:end]))
