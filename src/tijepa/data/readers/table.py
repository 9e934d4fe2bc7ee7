"""A folder of images and one table of captions: CSV, TSV or JSON lines.

The table is `captions.jsonl`, `pairs.jsonl`, `metadata.jsonl`, the same as .csv or .tsv, or the
only file of such a kind. One row describes one image, with paths relative to the folder:

    {"image": "images/1.jpg", "captions": ["a red ball", "a ball"], "split": "train"}
    {"image": null, "text": "a text without an image", "id": "t1"}
    {"image": "images/2.jpg", "captions": [], "split": "val"}

Rows of the same image become one item with all their captions.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import (
    ID,
    Cells,
    Columns,
    Row,
    cells_of,
    find_columns,
    guess_columns,
    recognised_names,
    take,
)
from tijepa.data.readers.files import (
    digest_of_files,
    extra_of,
    inside,
    is_clutter,
    item_name,
    printable,
    read_file,
    split_of_value,
)
from tijepa.data.readers.rows import JSON_LINES, SEPARATED, read_rows
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError
from tijepa.registry import register

_FILES = tuple(
    f"{name}{ending}"
    for ending in (".jsonl", ".csv", ".tsv")
    for name in ("captions", "pairs", "metadata")
)
_HEAD = 1000  # rows looked at before all are


@register("reader", "table")
class TableReader(Reader):
    """Images in files, captions in a table."""

    name: ClassVar[str] = "table"
    priority: ClassVar[int] = 60
    layout: ClassVar[str] = "a .csv, .tsv or .jsonl table, or the folder that holds it"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._file = _table_file(Path(source))
        self._known = recognised_names(options)
        names, whole = self._columns(_HEAD)
        guessed = guess_columns(names, options)
        if not whole and not (guessed.image and guessed.caption and guessed.split):
            names, _ = self._columns(None)  # a later row may have what the first ones lack
        columns = find_columns(names, self._file, options)
        self._describe = columns.describe(names)
        if self._file.suffix.lower() in JSON_LINES:
            columns = columns.with_later(options)
        self._groups = GroupedRows(self._rows, columns, self._file.parent, self._file.name)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """A table by its ending, or a folder with a table by its name or by its only one's head."""
        try:
            file = _table_file(Path(source))
        except (DataError, OSError, ValueError):
            return False
        if Path(source).is_file() or file.name in _FILES:
            return True
        options = ReaderOptions()
        rows = read_rows(file, recognised_names(options))
        try:
            head = next((row for row in itertools.islice(rows, 10) if isinstance(row, Row)), None)
        except DataError:
            return False
        columns = guess_columns(tuple(head.values) if head else (), options)
        return bool(columns.image and columns.caption)

    def __iter__(self) -> Iterator[Record | Rejected]:
        return self._groups.records()

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._file}: {self._describe}"

    def fingerprint(self) -> str:
        """Of the table and of every image that it names."""
        names = itertools.chain([self._file.name], self._groups.images())
        return digest_of_files(self._file.parent, names)

    def _rows(self) -> Iterator[Row | Rejected]:
        return read_rows(self._file, self._known)

    def _columns(self, most: int | None) -> tuple[tuple[str, ...], bool]:
        """Columns of the first `most` rows in order of appearance, and whether these are all.

        A header names all of them, while each JSON object may bring others.
        """
        names: dict[str, None] = {}
        first: Rejected | None = None
        seen = 0
        for row in itertools.islice(self._rows(), most):
            seen += 1
            if isinstance(row, Row):
                names.update(dict.fromkeys(row.values))
            else:
                first = first or row
        header = self._file.suffix.lower() in SEPARATED and bool(names)
        whole = most is None or seen < most or header
        if not names and first is not None and whole:
            raise DataError(
                f"{self._file} has no readable row; {first.item}: {first.reason}; mend the file"
            )
        if not names and whole:
            raise DataError(f"{self._file} is empty or has no rows: write one for each image")
        return tuple(names), whole


def _table_file(source: Path) -> Path:
    endings = (*JSON_LINES, *SEPARATED)
    if source.is_file():
        if source.suffix.lower() not in endings:
            raise DataError(f"{source} is no table: its name must end in {', '.join(endings)}")
        return source
    entries = (entry for entry in source.iterdir() if entry.is_file())
    names = sorted(entry.name for entry in entries if not is_clutter(entry.name))
    for name in _FILES:
        if name in names:
            return source / name
    for kind in (JSON_LINES, SEPARATED):
        candidates = [name for name in names if name.lower().endswith(kind)]
        if len(candidates) == 1:
            return source / candidates[0]
        if candidates:
            raise DataError(
                f"folder {source} holds {len(candidates)} captions files "
                f"({', '.join(candidates[:3])}, ...): rename the right one to captions{kind[0]}, "
                "or name it as the source"
            )
    raise DataError(
        f"folder {source} holds no captions file: looked for {', '.join(_FILES)} and any single "
        "*.jsonl, *.csv or *.tsv"
    )


@dataclass
class _Item:
    """One image or text under construction."""

    name: str
    line: int
    image: str | None
    split: str | None
    captions: list[Any]
    extras: list[dict[str, Any]]


class GroupedRows:
    """Records of rows that name an image file: rows of the same image become one record.

    `rows` gives the rows anew each time, paths are relative to `root`, and `label` is what the
    table is called in references. The rows are read twice: first a 64-bit hash of each image's path
    is kept, to know how many rows each image has; then a record is given as soon as its last row is
    there. So memory holds 8 bytes a row and the texts of the images whose rows lie apart.
    """

    def __init__(
        self, rows: Callable[[], Iterator[Row | Rejected]], columns: Columns, root: Path, label: str
    ) -> None:
        self._rows = rows
        self._columns = columns
        self._root = root
        self._label = label

    def images(self) -> Iterator[str]:
        """Paths of the images in the order of the rows; repeated at most where rows lie apart."""
        last = None
        for path, _ in self._pairs():
            if path is not None and path != last:
                last = path
                yield path

    def records(self) -> Iterator[Record | Rejected]:
        """All records; a row that cannot be used, and an image that cannot be read, skipped."""
        repeated, left = self._count()
        groups: dict[int, dict[object, _Item]] = {}
        for row in self._rows():
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                item = self._item(row)
            except DataError as error:
                yield Rejected(self._name(row), f"line {row.line}: {error}")
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
                yield Rejected(item.name, f"line {row.line}: {error}")
            left[place] -= 1
            if left[place] <= 0:
                for joined in groups.pop(place).values():
                    yield self._finished(joined)
        for group in groups.values():  # whose later rows could not be used
            for joined in group.values():
                yield self._finished(joined)

    def _count(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys that occur in several rows, sorted, and in how many."""
        keys = array("Q", (_key(path, captions) for path, captions in self._pairs()))
        unique, counts = np.unique(np.frombuffer(keys, dtype=np.uint64), return_counts=True)
        return unique[counts > 1], counts[counts > 1]

    def _pairs(self) -> Iterator[tuple[str | None, Sequence[Any]]]:
        """Path and captions of the rows whose path is one."""
        for row in self._rows():
            if isinstance(row, Row):
                try:
                    cells = cells_of(row.values, self._columns)
                    yield self._path(cells), cells.captions
                except DataError:
                    continue

    def _path(self, cells: Cells) -> str | None:
        return None if cells.image is None else inside(self._root, cells.image)

    def _name(self, row: Row) -> str:
        _, image = take(row.values, self._columns.image)
        return item_name(
            row.values.get(ID), image if isinstance(image, str) and image else f"line {row.line}"
        )

    def _item(self, row: Row) -> _Item:
        cells = cells_of(row.values, self._columns)
        return _Item(
            name=self._name(row),
            line=row.line,
            image=self._path(cells),
            split=split_of_value(cells.split) if self._columns.split else None,
            captions=list(cells.captions),
            extras=[extra_of(cells.extra)],
        )

    def _finished(self, item: _Item) -> Record | Rejected:
        data = None
        if item.image is not None:
            try:
                data = read_file(self._root / item.image)
            except DataError as error:
                path = printable(item.image)
                where = "" if item.name == path else f" ({path})"
                return Rejected(item.name, f"line {item.line}: {error}{where}")
        return Record(
            id=item.name,
            reference=f"{self._label}:{item.line}",
            image=data,
            captions=tuple(item.captions),
            split=item.split,
            extra=_merged(item.extras),
        )


def _key(image: str | None, captions: Sequence[Any]) -> int:
    """64 bits of what makes rows belong together: the image's path, else the text."""
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
