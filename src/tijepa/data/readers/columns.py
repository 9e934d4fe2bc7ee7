"""Which columns hold the image, the captions and the split: guessed by name, or as told."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from PIL import Image

from tijepa.data.pairs import Rejected
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

ID = "id"
_USUAL = {
    "image": (
        "image", "images", "image_path", "filepath", "file_path", "file_name", "filename",
        "image_name", "image_file", "img", "file", "path", "picture", "photo", "jpg", "png",
    ),
    "caption": (
        "captions", "caption", "text", "texts", "title", "description", "sentences", "sentence",
        "comment", "alt_text", "txt",
    ),
    "split": ("split", "partition"),
}  # fmt: skip
_NUMBERED = re.compile(r"(caption|captions|text|sentence|description)[ _-]?\d+")
_PROBED = 20  # names by which the folder of images is found
_NOTHING = "neither an image nor a caption"


@dataclass(frozen=True)
class Columns:
    """Names of columns by meaning; several where rows differ, the first that has a value counts.

    But of captions all count where there are `several` columns of them.
    """

    image: tuple[str, ...]
    caption: tuple[str, ...]
    split: tuple[str, ...]
    several: bool = False

    def with_later(self, options: ReaderOptions) -> Columns:
        """Of rows that may bring columns of their own: usual names not seen yet count too.

        Not where `options` name the column.
        """

        told = _told(options)

        def more(what: str, known: tuple[str, ...]) -> tuple[str, ...]:
            later = () if told[what] is not None else _USUAL[what]
            return tuple(dict.fromkeys((*known, *later)))

        split = more("split", self.split) if self.split else ()
        captions = self.caption if self.several else more("caption", self.caption)
        return Columns(more("image", self.image), captions, split, self.several)

    def describe(self, columns: Iterable[str]) -> str:
        """For people: what was taken for what, and what else there is."""
        captions = self.caption if self.several else self.caption[:1]
        taken = {*self.image[:1], *captions, *self.split[:1], ID}
        further = [name for name in columns if name not in taken]
        parts = [
            f"{what} from '{_listed(names)}'" if names else f"no {what} column"
            for what, names in (
                ("image", self.image[:1]),
                ("captions", captions),
                ("split", self.split[:1]),
            )
        ]
        if further:
            shown = _listed(further[:8]) + (", ..." if len(further) > 8 else "")
            parts.append(f"other columns: {shown}")
        return "; ".join(parts)


def recognised_names(options: ReaderOptions) -> frozenset[str]:
    """All names, in lower case, that a column of pairs may have."""
    told = (name.lower() for names in _told(options).values() for name in names or ())
    return frozenset((*itertools.chain(*_USUAL.values()), ID, *told))


def guess_columns(columns: Sequence[str], options: ReaderOptions) -> Columns:
    """Columns by their usual names or as `options` say; a meaning without column is empty."""
    lower = {name.lower().strip(): name for name in reversed(columns)}

    def pick(what: str, told: tuple[str, ...] | None) -> tuple[str, ...]:
        if told is not None:
            return told if set(told) <= set(columns) else ()
        return tuple(lower[name] for name in _USUAL[what] if name in lower)

    told = _told(options)
    found = {what: pick(what, names) for what, names in told.items()}
    several = len(told["caption"] or ()) > 1
    if told["caption"] is None and not found["caption"]:
        numbered = [name for name in columns if _NUMBERED.fullmatch(name.strip().lower())]
        found["caption"], several = tuple(numbered), len(numbered) > 1
    return Columns(found["image"], found["caption"], found["split"], several)


def find_columns(columns: Sequence[str], where: object, options: ReaderOptions) -> Columns:
    """As `guess_columns`, but `DataError` where image, caption or a named column is missing."""
    guessed = guess_columns(columns, options)
    found = _listed(columns) or "none"
    for what, told in _told(options).items():
        if getattr(guessed, what):
            continue
        if told is not None:
            lacking = next(name for name in told if name not in columns)
            near = get_close_matches(lacking.lower(), {n.lower(): n for n in columns}, n=1)
            meant = next((n for n in columns if near and n.lower() == near[0]), None)
            ask = "" if meant is None else f"; did you mean '{_listed([meant])}'?"
            raise DataError(
                f"{where} has no column '{lacking}' for the {what}; columns: {found}{ask}"
            )
        if what != "split":
            raise DataError(
                f"{where} has no recognised {what} column; columns: {found}; name it with "
                f"`{what}_column`, or rename it to '{_USUAL[what][0]}' and leave it empty where "
                f"there is no {what}"
            )
    return guessed


def _told(options: ReaderOptions) -> dict[str, tuple[str, ...] | None]:
    image, split = options.image_column, options.split_column
    return {
        "image": None if image is None else (image,),
        "caption": options.caption_columns,
        "split": None if split is None else (split,),
    }


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


def take_captions(
    values: Mapping[str, Any], columns: Columns
) -> tuple[tuple[str | None, ...], tuple[Any, ...]]:
    """The columns that captions come from, and the captions; blank cells of several are none."""
    if not columns.several:
        name, value = take(values, columns.caption)
        return (name,), captions_of(value)
    cells = [cell for name in columns.caption for cell in captions_of(values.get(name))]
    found = (cell for cell in cells if not isinstance(cell, str) or cell.strip())
    return columns.caption, tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Row:
    """One row: its place, counted from 1 (in a text file its first line), its values by column."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Cells:
    """The values of one row by their meaning; `extra` are those of all other columns."""

    image: Any
    captions: tuple[Any, ...]
    split: Any
    extra: dict[str, Any]


def cells_of(values: Mapping[str, Any], columns: Columns) -> Cells:
    """Sort the values of a row; `DataError` where it has neither an image nor a caption."""
    image_column, image = take(values, columns.image)
    caption_columns, captions = take_captions(values, columns)
    split_column, split = take(values, columns.split)
    if image is None and not captions:
        raise DataError(_NOTHING)
    used = {image_column, *caption_columns, split_column, ID}
    return Cells(image, captions, split, {n: v for n, v in values.items() if n not in used})


def records_of_rows(
    rows: Iterable[Row | Rejected],
    columns: Columns,
    *,
    label: str,
    split: str | None,
    root: Path | None,
) -> Iterator[Record | Rejected]:
    """Rows that hold the image itself (bytes, a struct of bytes and path, an opened image).

    A row is called `label` and its number. Otherwise as `record_of_row`.
    """
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        name = f"{label}:{row.line}"
        try:
            yield record_of_row(row.values, columns, name=name, split=split, root=root)
        except DataError as error:
            yield Rejected(name, str(error))


def record_of_row(
    values: Mapping[str, Any], columns: Columns, *, name: str, split: str | None, root: Path | None
) -> Record:
    """One row as a record; `DataError` with a short reason if it cannot be one.

    `name` is its id unless it gives one, and its reference. Its own split goes before `split`.
    Paths of images are relative to `root`; where that is None they are taken as they are.
    """
    cells = cells_of(values, columns)
    data = None if cells.image is None else _bytes_of(cells.image, root)
    if data is None and not cells.captions:
        raise DataError(_NOTHING)
    return Record(
        id=item_name(values.get(ID), name),
        reference=name,
        image=data,
        captions=cells.captions,
        split=split if cells.split is None else split_of_value(cells.split),
        extra=extra_of(cells.extra),
    )


def _bytes_of(image: Any, root: Path | None) -> bytes | None:
    """The image file's bytes; None where a struct holds neither bytes nor path.

    A list of one image is that image.
    """
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
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
    if isinstance(image, list):
        raise DataError(f"image is a list of {len(image)}: an item has one")
    raise DataError(f"image is {type(image).__name__}, not bytes, a path or an image")


def image_root(candidates: Iterable[Path], names: Sequence[str]) -> Path:
    """The candidate folder that holds most of the first 20 names; the first one of equals."""

    def held(folder: Path) -> int:
        return sum(_exists(folder / name) for name in names[:_PROBED])

    return max(dict.fromkeys(candidates), key=held)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
