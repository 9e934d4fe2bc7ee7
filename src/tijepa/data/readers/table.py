"""A folder of pictures and one table of captions: CSV, TSV or JSON lines.

The table is `captions.jsonl`, `pairs.jsonl`, `metadata.jsonl`, the same as .csv or .tsv, or the
only file of such a kind. One row describes one picture, with paths relative to the folder:

    {"image": "images/1.jpg", "captions": ["a red ball", "a ball"], "split": "train"}
    {"image": null, "text": "a text without a picture", "id": "t1"}
    {"image": "images/2.jpg", "captions": [], "split": "val"}

Rows of the same picture become one item with all their captions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.readers.columns import find_columns, guess_columns, recognised_names
from tijepa.data.readers.files import digest_of_files
from tijepa.data.readers.gather import Gathering
from tijepa.data.readers.rows import JSON_LINES, SEPARATED, Row, read_rows
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError

__all__ = ["TableReader"]

_FILES = tuple(
    f"{name}{ending}"
    for ending in (".jsonl", ".csv", ".tsv")
    for name in ("captions", "pairs", "metadata")
)
_HEAD = 1000  # rows looked at before all are


class TableReader(Reader):
    """Pictures in files, captions in a table."""

    name: ClassVar[str] = "table"
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
        self._gathering = Gathering(self._rows, columns, self._file.parent, self._file.name)

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

    def __iter__(self) -> Iterator[Record | SetAside]:
        return self._gathering.records()

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._file}: {self._describe}"

    def fingerprint(self) -> str:
        """Of the table and of every picture that it names."""
        names = itertools.chain([self._file.name], self._gathering.pictures())
        return digest_of_files(self._file.parent, names)

    def _rows(self) -> Iterator[Row | SetAside]:
        return read_rows(self._file, self._known)

    def _columns(self, most: int | None) -> tuple[tuple[str, ...], bool]:
        """Columns of the first `most` rows in order of appearance, and whether these are all.

        A header names all of them, while each JSON object may bring others.
        """
        names: dict[str, None] = {}
        first: SetAside | None = None
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
            raise DataError(f"{self._file} is empty or has no rows: write one for each picture")
        return tuple(names), whole


def _table_file(source: Path) -> Path:
    endings = (*JSON_LINES, *SEPARATED)
    if source.is_file():
        if source.suffix.lower() not in endings:
            raise DataError(f"{source} is no table: its name must end in {', '.join(endings)}")
        return source
    names = sorted(entry.name for entry in source.iterdir() if entry.is_file())
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
