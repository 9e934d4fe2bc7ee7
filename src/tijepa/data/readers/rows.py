"""Captions files to rows, one at a time: JSON lines, comma- or otherwise separated values."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Row
from tijepa.data.readers.files import read_json
from tijepa.data.records import Numeral
from tijepa.errors import DataError

JSON_LINES = (".jsonl", ".ndjson")
SEPARATED = (".csv", ".tsv")

_SEPARATORS = (",", "\t", ";", "|")
_MAX_LINE = 64_000_000  # bytes of a line, characters of a cell; keeps memory bounded
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_rows(file: Path, known: frozenset[str]) -> Iterator[Row | Rejected]:
    """Rows of a .jsonl, .csv or .tsv file in UTF-8; lines that are invalid as `Rejected`.

    Empty cells of CSV and TSV files are None. `known` are usual names of columns in lower case,
    by which the separator is found. Raises `DataError` if the file cannot be read.
    """
    try:
        if file.suffix.lower() in JSON_LINES:
            yield from _read_json_lines(file)
        else:
            yield from _read_separated(file, known)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None


def _read_json_lines(file: Path) -> Iterator[Row | Rejected]:
    with file.open("rb") as handle:
        _refuse_utf16(handle.read(2), file)
        handle.seek(0)
        line = 0
        while text := handle.readline(_MAX_LINE):
            line += 1
            if len(text) == _MAX_LINE and not text.endswith(b"\n"):
                while (rest := handle.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield Rejected(f"line {line}", f"longer than {_MAX_LINE:,} bytes")
                continue
            if not text.strip():
                continue
            try:
                values = read_json(text)
            except DataError as error:
                yield Rejected(f"line {line}", str(error))
                continue
            if isinstance(values, dict):
                yield Row(line, values)
            else:
                kind = type(values).__name__
                yield Rejected(f"line {line}", f"{kind} instead of a JSON object")


def _read_separated(file: Path, known: frozenset[str]) -> Iterator[Row | Rejected]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))
    with file.open("rb") as start:
        _refuse_utf16(start.read(2), file)
    # invalid bytes become lone surrogates, so that a single bad row does not spoil the file
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        lines = _Lines(handle)
        separator = separator_of(handle, file, known)
        reader = csv.reader(lines, delimiter=separator)
        header: list[str] | None = None
        while True:
            lines.start_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejected(f"line {lines.first}", f"{error}: quote its cells properly")
                lines.back_to_second()
                continue
            if lines.open_quote(separator):
                yield Rejected(f"line {lines.first}", "a quote opens and never closes: close it")
                lines.back_to_second()
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _named_once(cells)
                continue
            problem = _problem(cells, header)
            if problem:
                yield Rejected(f"line {lines.first}", problem)
            else:
                values = [
                    Numeral.of(cell, comma=separator != ",") if cell.strip() else None
                    for cell in cells
                ]
                yield Row(lines.first, dict(zip(header, values, strict=True)))


class _Lines:
    """Lines of a file for the csv reader, remembering those of the row at hand."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self._row: list[str] = []
        self._again: deque[str] = deque()  # lines that a row swallowed, to be read anew
        self._read = 0
        self.first = 1  # line of the row at hand, counted from 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._handle.readline()
        if not line:
            raise StopIteration
        self._read += 1
        self._row.append(line)
        return line

    def start_row(self) -> None:
        self._row = []
        self.first = self._read + 1

    def open_quote(self, separator: str) -> bool:
        """Whether a quote of the row at hand ends nowhere, or at one that is not meant to close it.

        Such a quote swallows the rows up to there, so it is looked for where a row has several
        lines, or is the last one.
        """
        if len(self._row) == 1 and self._row[0].count('"') % 2 == 0:
            return False
        try:
            list(csv.reader(self._row, delimiter=separator, strict=True))
        except csv.Error as error:
            return len(self._row) > 1 or "unexpected end of data" in str(error)
        return False

    def back_to_second(self) -> None:
        """Read all lines of the row at hand but its first one again, as rows of their own."""
        self._again.extendleft(reversed(self._row[1:]))
        self._read -= len(self._row) - 1
        self._row = self._row[:1]


def separator_of(handle: TextIO, file: Path, known: frozenset[str]) -> str:
    """The separator under which the header shows most known columns, then most cells.

    Of equals the first of comma, tab, semicolon and bar, in a .tsv file the tab.
    """
    lines: list[str] = []
    while len(lines) < 100 and (line := handle.readline()):
        lines.append(line)
    handle.seek(0)

    def score(separator: str) -> tuple[int, int, bool]:
        try:
            header = next((row for row in csv.reader(lines, delimiter=separator) if any(row)), [])
        except csv.Error:
            header = []
        names = {cell.strip().lower() for cell in header}
        tab = file.suffix.lower() == ".tsv" and separator == "\t"
        return len(names & known), len(header), tab

    return max(_SEPARATORS, key=score)


def _named_once(cells: list[str]) -> list[str]:
    """Names of the columns; one that stands again gets a number, a blank one its place."""
    names: list[str] = []
    for place, cell in enumerate(cells, start=1):
        name = cell.strip() or f"column {place}"
        number = 0
        unique = name
        while unique in names:
            number += 1
            unique = f"{name}.{number}"
        names.append(unique)
    return names


def _problem(cells: list[str], header: list[str]) -> str | None:
    if len(cells) != len(header):
        return f"{len(cells)} cells under a header of {len(header)}: quote cells with separators"
    for cell in cells:
        if not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell):
            return "invalid UTF-8"
    return None


def _refuse_utf16(start: bytes, file: Path) -> None:
    if start in _UTF16_MARKS:
        raise DataError(f"{file} is UTF-16 text: save it as UTF-8")
