"""Captions files to rows: JSON lines, comma- or tab-separated values."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tijepa.data.pairs import SetAside
from tijepa.errors import DataError

__all__ = ["Row", "Table", "read_table"]

_SEPARATORS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class Row:
    """One row: its first line in the file, counted from 1, and its values by column."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Readable rows, all columns in order of appearance, and the unreadable lines."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    set_aside: tuple[SetAside, ...]


def read_table(file: Path) -> Table:
    """Read a .jsonl, .csv or .tsv file as UTF-8, setting aside lines that are invalid.

    Empty cells of CSV and TSV files are None. Raises `DataError` if the file cannot be read.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if file.suffix.lower() == ".jsonl":
        return _read_json_lines(data)
    return _read_separated(data, file)


def _read_json_lines(data: bytes) -> Table:
    columns: dict[str, None] = {}
    rows: list[Row] = []
    set_aside: list[SetAside] = []
    for line, text in enumerate(data.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text.decode("utf-8"))
        except UnicodeDecodeError:
            set_aside.append(SetAside(f"line {line}", "invalid UTF-8"))
        except (ValueError, RecursionError) as error:
            set_aside.append(SetAside(f"line {line}", f"invalid JSON: {error}"))
        else:
            if isinstance(values, dict):
                columns.update(dict.fromkeys(values))
                rows.append(Row(line, values))
            else:
                set_aside.append(
                    SetAside(f"line {line}", f"{type(values).__name__} instead of a JSON object")
                )
    return Table(tuple(columns), tuple(rows), tuple(set_aside))


def _read_separated(data: bytes, file: Path) -> Table:
    # invalid bytes become lone surrogates, so that a single bad row does not spoil the file
    text = data.decode("utf-8", "surrogateescape")
    header_line = text.lstrip().partition("\n")[0]
    separator = max(_SEPARATORS, key=header_line.count) if file.suffix.lower() != ".tsv" else "\t"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[Row] = []
    set_aside: list[SetAside] = []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            first, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                continue
            problem = _problem(cells, header)
            if problem:
                set_aside.append(SetAside(f"line {first}", problem))
            else:
                values = [cell if cell.strip() else None for cell in cells]
                rows.append(Row(first, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise DataError(f"{file} line {line}: {error}; quote its cells properly") from None
    return Table(tuple(header or ()), tuple(rows), tuple(set_aside))


def _problem(cells: list[str], header: list[str]) -> str | None:
    if len(cells) != len(header):
        return f"{len(cells)} cells under a header of {len(header)}: quote cells with separators"
    for cell in cells:
        if not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell):
            return "invalid UTF-8"
    return None
