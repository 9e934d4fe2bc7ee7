"""Rows of numbers in files that only grow, memory-mapped, with a journal of what counts.

A folder holds plain arrays end to end and `journal.jsonl`, one line of JSON for each chunk of rows,
written once the chunk lies on disk. A line says how many rows there are up to and with its chunk;
whatever a stopped process wrote beyond the last whole line is overwritten by the next chunk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.errors import DataError
from tijepa.io.files import replacing

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Column:
    """One file: its name, the type of its numbers, and how many of them make a row.

    A row is one number where `width` is None. `counted` is the entry of a line of the journal that
    holds how many rows the file has.
    """

    file: str
    dtype: str
    counted: str
    width: int | None = None

    def shape(self, line: Mapping[str, Any] | None) -> tuple[int, ...]:
        """The shape of the file at a line of the journal, or before the first one (None)."""
        rows = int(line[self.counted]) if line else 0
        return (rows,) if self.width is None else (rows, self.width)

    def size(self, line: Mapping[str, Any] | None) -> int:
        """The same in bytes."""
        return int(np.prod(self.shape(line))) * np.dtype(self.dtype).itemsize


class VectorFiles:
    """The columns of one folder; `lines` is its journal.

    Where the folder cannot be written, also in `append` and `clear`, the error is what `unwritable`
    says of it. `remedy` is what a user can do about a damaged file, for the `DataError` of that.
    """

    def __init__(
        self,
        folder: Path,
        columns: Mapping[str, Column],
        *,
        unwritable: Callable[[Path, OSError], DataError],
        remedy: str,
    ) -> None:
        self.folder = folder
        self.columns = dict(columns)
        self._unwritable = unwritable
        self._remedy = remedy
        self._journal = folder / JOURNAL
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            content = self._journal.read_bytes() if self._journal.exists() else b""
        self._read = content.rfind(b"\n") + 1  # a crash may have torn the last line
        try:
            self.lines: list[dict[str, Any]] = [
                dict(json.loads(line)) for line in content[: self._read].splitlines()
            ]
        except (ValueError, TypeError):
            raise DataError(f"{self._journal} is damaged: {remedy}") from None

    @property
    def last(self) -> dict[str, Any] | None:
        """The last line of the journal."""
        return self.lines[-1] if self.lines else None

    def append(self, line: Mapping[str, Any], values: Mapping[str, NDArray[Any]]) -> None:
        """Add a chunk, durably: the rows of every column, and the line that counts them."""
        with self._writing():
            for name, column in self.columns.items():
                data = np.ascontiguousarray(values[name], dtype=column.dtype).tobytes()
                held = column.size(self.last)
                assert held + len(data) == column.size(line), (name, line)
                _write(self.folder / column.file, held, data)
            entry = (json.dumps(dict(line)) + "\n").encode()
            _write(self._journal, self._read, entry)
        self._read += len(entry)
        self.lines.append(dict(line))

    def rows(self, name: str, line: Mapping[str, Any] | None) -> NDArray[Any]:
        """A column as it was at a line of the journal. Raises `DataError` where it was damaged."""
        column = self.columns[name]
        path = self.folder / column.file
        try:
            return mapped(path, column.dtype, column.shape(line))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}): {self._remedy}") from None

    def clear(self) -> None:
        """Throw everything away. Whoever has mapped it keeps what was mapped."""
        with self._writing():
            shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
        self.lines, self._read = [], 0

    def conclude(self, name: str, facts: Any) -> None:
        """Put the file `name`, which holds `facts` as JSON, in the place of the journal."""
        with self._writing():
            with replacing(self.folder / name) as temporary:
                temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            self._journal.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(self.folder, error) from None


def mapped(
    path: Path, dtype: str, shape: tuple[int, ...], *, complete: bool = False
) -> NDArray[Any]:
    """The first values of a file as an array on disk; `complete` if it must hold nothing else.

    Raises `OSError` where it cannot be opened and `ValueError` where it has another size.
    """
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    held = path.stat().st_size if needed or complete else 0
    if held < needed or (complete and held > needed):
        raise ValueError(f"{path.name} has {held:,} bytes instead of {needed:,}")
    return np.memmap(path, dtype, "r", shape=shape) if needed else np.zeros(shape, dtype)


def _write(path: Path, position: int, data: bytes) -> None:
    """Write at `position` of a file, which ends there or beyond, and end it after that."""
    with open(path, "r+b" if path.exists() else "x+b") as file:
        file.truncate(position)
        file.seek(position)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
