"""Which columns hold the image, the captions and the split: guessed by name, or as told."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tijepa.data.readers.files import (
    captions_of,
    check_size,
    extra_of,
    inside,
    item_name,
    read_file,
    split_of_value,
)
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

_IMAGE = (
    "image",
    "image_path",
    "filepath",
    "file_path",
    "file_name",
    "filename",
    "image_name",
    "image_file",
    "img",
    "file",
    "path",
    "picture",
    "photo",
    "jpg",
    "png",
)
_CAPTION = (
    "captions",
    "caption",
    "text",
    "texts",
    "title",
    "description",
    "sentences",
    "sentence",
    "comment",
    "alt_text",
    "txt",
)
_SPLIT = ("split", "partition")
ID = "id"


@dataclass(frozen=True)
class Columns:
    """Names of columns by meaning; several where rows differ, the first that has a value counts."""

    image: tuple[str, ...]
    caption: tuple[str, ...]
    split: tuple[str, ...]

    def with_later(self, options: ReaderOptions) -> Columns:
        """Of rows that may bring columns of their own: usual names not seen yet count too.

        Not where `options` name the column.
        """

        def more(
            known: tuple[str, ...], told: str | None, usual: tuple[str, ...]
        ) -> tuple[str, ...]:
            return known if told is not None else tuple(dict.fromkeys((*known, *usual)))

        return Columns(
            image=more(self.image, options.image_column, _IMAGE),
            caption=more(self.caption, options.caption_column, _CAPTION),
            split=more(self.split, options.split_column, _SPLIT) if self.split else (),
        )

    def describe(self, columns: Iterable[str]) -> str:
        """For people: what was taken for what, and what is kept besides."""
        taken = {*self.image[:1], *self.caption[:1], *self.split[:1], ID}
        further = [name for name in columns if name not in taken]
        parts = [
            f"{what} from '{_listed(names[:1])}'" if names else f"no {what} column"
            for what, names in (
                ("image", self.image),
                ("captions", self.caption),
                ("split", self.split),
            )
        ]
        if further:
            shown = _listed(further[:8]) + (", ..." if len(further) > 8 else "")
            parts.append(f"kept besides: {shown}")
        return "; ".join(parts)


def recognised_names(options: ReaderOptions) -> frozenset[str]:
    """All names, in lower case, that a column of pairs may have."""
    told = (options.image_column, options.caption_column, options.split_column)
    return frozenset(
        (*_IMAGE, *_CAPTION, *_SPLIT, ID, *(name.lower() for name in told if name is not None))
    )


def guess_columns(columns: Sequence[str], options: ReaderOptions) -> Columns:
    """Columns by their usual names or as `options` say; a meaning without column is empty."""
    lower = {name.lower().strip(): name for name in reversed(columns)}

    def pick(wanted: str | None, usual: tuple[str, ...]) -> tuple[str, ...]:
        if wanted is not None:
            return (wanted,) if wanted in columns else ()
        return tuple(lower[name] for name in usual if name in lower)

    return Columns(
        image=pick(options.image_column, _IMAGE),
        caption=pick(options.caption_column, _CAPTION),
        split=pick(options.split_column, _SPLIT),
    )


def find_columns(columns: Sequence[str], where: object, options: ReaderOptions) -> Columns:
    """As `guess_columns`, but `DataError` where image, caption or a named column is missing."""
    guessed = guess_columns(columns, options)
    found = _listed(columns) or "none"
    for what, wanted, names, usual in (
        ("image", options.image_column, guessed.image, _IMAGE),
        ("caption", options.caption_column, guessed.caption, _CAPTION),
        ("split", options.split_column, guessed.split, None),
    ):
        if names:
            continue
        if wanted is not None:
            raise DataError(f"{where} has no column '{wanted}' for the {what}; columns: {found}")
        if usual is not None:
            raise DataError(
                f"{where} has no recognised {what} column; columns: {found}; name it with "
                f"`{what}_column`, or rename it to '{usual[0]}' and leave it empty where there is "
                f"no {what}"
            )
    return guessed


def _listed(names: Iterable[str]) -> str:
    """On one line, whatever the names hold."""
    return ", ".join(ascii(name)[1:-1] if not name.isprintable() else name for name in names)


def take(values: Mapping[str, Any], names: Iterable[str]) -> tuple[str | None, Any]:
    """Name and value of the first of `names` that has a value; (None, None) if none has."""
    for name in names:
        value = values.get(name)
        if value is not None:
            return name, value
    return None, None


# Rows that hold the image itself: bytes, a struct of bytes and path, or an opened image.


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
    Paths of images are relative to `root`; where that is None they are taken as they are.
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
    """The image file's bytes; None where a struct holds neither bytes nor path."""
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
    raise DataError(f"image is {type(image).__name__}, not bytes, a path or an image")


# Where the images are that an annotation file names without saying in which folder.


_PROBED = 20


def image_root(candidates: Iterable[Path], names: Sequence[str]) -> Path:
    """The candidate folder that holds most of the first names; the first one of equals."""
    folders = list(dict.fromkeys(candidates))
    probes = names[:_PROBED]

    def held(folder: Path) -> int:
        return sum(_exists(folder / name) for name in probes)

    return max(folders, key=held)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
