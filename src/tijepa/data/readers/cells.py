"""Rows that hold the picture itself: bytes, a struct of bytes and path, or an opened picture."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tijepa.data.readers.columns import ID, Columns, take
from tijepa.data.readers.files import check_size, inside, read_file
from tijepa.data.readers.values import captions_of, extra_of, item_name, split_of_value
from tijepa.data.records import Record
from tijepa.errors import DataError

__all__ = ["record_of_row"]


def record_of_row(
    values: Mapping[str, Any],
    columns: Columns,
    *,
    name: str,
    split: str | None,
    root: Path | None,
) -> Record:
    """One row as a record; `DataError` with a short reason if it cannot be one.

    `name` is its id unless it gives one, and its reference. Its own split goes before `split`.
    Paths of pictures are relative to `root`; where that is None they are taken as they are.
    """
    image_column, image = take(values, columns.image)
    caption_column, value = take(values, columns.caption)
    split_column, own_split = take(values, columns.split)
    data = None if image is None else _bytes_of(image, root)
    captions = captions_of(value)
    if data is None and not captions:
        raise DataError("neither an image nor a caption")
    used = {image_column, caption_column, split_column, ID}
    return Record(
        id=item_name(values.get(ID), name),
        reference=name,
        image=data,
        captions=captions,
        split=split if own_split is None else split_of_value(own_split),
        extra=extra_of({n: v for n, v in values.items() if n not in used}),
    )


def _bytes_of(image: Any, root: Path | None) -> bytes | None:
    """The picture file's bytes; None where a struct holds neither bytes nor path."""
    if isinstance(image, dict) and ("bytes" in image or "path" in image):
        if image.get("bytes") is None and image.get("path") is None:
            return None
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    if isinstance(image, (bytes, bytearray, memoryview)):
        check_size(len(image))
        return bytes(image)
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()
    if isinstance(image, str):
        return read_file(image if root is None else os.path.join(root, inside(root, image)))
    raise DataError(f"image is {type(image).__name__}, not bytes, a path or a picture")
