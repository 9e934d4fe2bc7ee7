"""Rows that name a picture file to records: rows of the same picture become one record.

The rows are read twice. The first time only a 64-bit hash of each picture's path is kept, to know
how many rows each picture has; the second time a record is given as soon as its last row is there.
So memory holds 8 bytes a row and the texts of the pictures whose rows lie apart.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tijepa.data.pairs import SetAside
from tijepa.data.readers.columns import ID, Columns, take
from tijepa.data.readers.files import inside, printable, read_file
from tijepa.data.readers.rows import Row
from tijepa.data.readers.values import captions_of, extra_of, item_name, split_of_value
from tijepa.data.records import Record
from tijepa.errors import DataError

__all__ = ["Gathering"]

Rows = Callable[[], Iterator[Row | SetAside]]


@dataclass
class _Item:
    """One picture or text under construction."""

    name: str
    line: int
    image: str | None
    split: str | None
    captions: list[Any]
    extras: list[dict[str, Any]] = field(default_factory=list)


class Gathering:
    """Records of a table: `rows` gives its rows anew each time, paths are relative to `root`."""

    def __init__(self, rows: Rows, columns: Columns, root: Path, label: str) -> None:
        self._rows = rows
        self._columns = columns
        self._root = root
        self._label = label  # how the table is called in references

    def pictures(self) -> Iterator[str]:
        """Paths of the pictures in the order of the rows; repeated at most where rows lie apart."""
        last = None
        for row in self._rows():
            _, value = (
                take(row.values, self._columns.image) if isinstance(row, Row) else (None, None)
            )
            if value is None or value == last:
                continue
            last = value
            try:
                yield inside(self._root, value)
            except DataError:
                continue

    def records(self) -> Iterator[Record | SetAside]:
        """All records; a row that cannot be used, and a picture that cannot be read, set aside."""
        repeated, left = self._count()
        groups: dict[int, dict[object, _Item]] = {}
        for row in self._rows():
            if isinstance(row, SetAside):
                yield row
                continue
            try:
                item = self._item(row)
            except DataError as error:
                yield SetAside(self._name(row), f"line {row.line}: {error}")
                continue
            key = _key(item.image, item.captions)
            place = int(np.searchsorted(repeated, np.uint64(key)))  # a plain int would be a float
            if place == len(repeated) or repeated[place] != key:
                yield self._finished(item)
                continue
            group = groups.setdefault(place, {})
            try:
                _join(group, item)
            except DataError as error:
                yield SetAside(item.name, f"line {row.line}: {error}")
            left[place] -= 1
            if left[place] <= 0:
                for joined in groups.pop(place).values():
                    yield self._finished(joined)
        for group in groups.values():  # whose later rows could not be used
            for joined in group.values():
                yield self._finished(joined)

    def _count(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys that occur in several rows, sorted, and in how many."""
        keys = array("Q")
        for row in self._rows():
            if isinstance(row, SetAside):
                continue
            _, image = take(row.values, self._columns.image)
            _, value = take(row.values, self._columns.caption)
            try:
                path = None if image is None else inside(self._root, image)
            except DataError:
                continue
            keys.append(_key(path, captions_of(value)))
        unique, counts = np.unique(np.frombuffer(keys, dtype=np.uint64), return_counts=True)
        return unique[counts > 1], counts[counts > 1]

    def _name(self, row: Row) -> str:
        _, image = take(row.values, self._columns.image)
        return item_name(
            row.values.get(ID), image if isinstance(image, str) and image else f"line {row.line}"
        )

    def _item(self, row: Row) -> _Item:
        columns = self._columns
        image_column, image = take(row.values, columns.image)
        caption_column, value = take(row.values, columns.caption)
        split_column, split = take(row.values, columns.split)
        path = None if image is None else inside(self._root, image)
        captions = captions_of(value)
        if path is None and not captions:
            raise DataError("neither an image nor a caption")
        used = {image_column, caption_column, split_column, ID}
        return _Item(
            name=self._name(row),
            line=row.line,
            image=path,
            split=split_of_value(split) if columns.split else None,
            captions=list(captions),
            extras=[extra_of({n: v for n, v in row.values.items() if n not in used})],
        )

    def _finished(self, item: _Item) -> Record | SetAside:
        data = None
        if item.image is not None:
            try:
                data = read_file(self._root / item.image)
            except DataError as error:
                path = printable(item.image)
                where = "" if item.name == path else f" ({path})"
                return SetAside(item.name, f"line {item.line}: {error}{where}")
        return Record(
            id=item.name,
            reference=f"{self._label}:{item.line}",
            image=data,
            captions=tuple(item.captions),
            split=item.split,
            extra=_merged(item.extras),
        )


def _key(image: str | None, captions: Sequence[Any]) -> int:
    """64 bits of what makes rows belong together: the picture's path, else the text."""
    text = repr(tuple(captions)) if image is None else image
    kind = b"text" if image is None else b"image"
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=kind).digest(), "big")


def _join(group: dict[object, _Item], item: _Item) -> None:
    """Add a row to the items of its group; `DataError` if it adds nothing or contradicts."""
    if item.image is None:
        identity = ("text", repr(item.captions))
        if identity in group:
            raise DataError("duplicate row: an earlier one has this text")
        group[identity] = item
        return
    known = group.setdefault(("image", item.image), item)
    if known is item:
        return
    if known.split != item.split:
        raise DataError(f"image stands in split '{known.split}' already")
    if all(caption in known.captions for caption in item.captions):
        raise DataError("duplicate row: an earlier one has this image and caption")
    known.captions.extend(item.captions)
    known.extras.extend(item.extras)


def _merged(extras: list[dict[str, Any]]) -> dict[str, Any]:
    """Further columns of all rows: one value where they agree, else a list with one for each."""
    if len(extras) == 1:
        return extras[0]
    names = dict.fromkeys(name for extra in extras for name in extra)
    merged: dict[str, Any] = {}
    for name in names:
        values = [extra.get(name) for extra in extras]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else values
    return merged
