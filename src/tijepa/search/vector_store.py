"""Embeddings on disk, in growing files with a journal: what is written stays after an interrupt.

`images.f32` and `texts.f32` hold one row of float32 after the other, `images.rows` and `texts.rows`
the store row of each as int64. `journal.jsonl` has one line for each chunk of store rows, written
once its embeddings lie on disk; whatever a stopped process wrote beyond it is cut off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tijepa.errors import DataError

__all__ = ["SIDES", "Chunk", "Side", "VectorStore", "Vectors", "unwritable"]

Side = Literal["images", "texts"]
SIDES: tuple[Side, Side] = ("images", "texts")


@dataclass(frozen=True)
class Chunk:
    """Store rows `start` to `stop` (exclusive), embedded; the other numbers count from row 0 on.

    `digest` is that of the rows' content, `unreadable` the images that gave no embedding.
    """

    start: int
    stop: int
    digest: str
    images: int
    texts: int
    unreadable: int


@dataclass(frozen=True)
class Vectors:
    """Joint embeddings of one modality, mapped from disk, and the store row of each, ascending."""

    values: NDArray[np.float32]
    rows: NDArray[np.int64]

    def numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each vector among those of its own row: which of the captions a text is."""
        return places - np.searchsorted(self.rows, self.rows[places])


class VectorStore:
    """The embeddings of one model on one store; `length` numbers each.

    With `rows` only chunks of the first `rows` rows of the store are seen: what stood there before
    more was appended. Such a shelf is for reading.
    """

    def __init__(self, folder: Path, length: int, rows: int | None = None) -> None:
        self.folder = folder
        self.length = length
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        held = _read_journal(folder / "journal.jsonl")
        self.chunks = [chunk for chunk in held if rows is None or chunk.stop <= rows]

    @property
    def rows(self) -> int:
        """How many rows of the store are embedded."""
        return self.chunks[-1].stop if self.chunks else 0

    def clear(self) -> None:
        """Throw everything away. Whoever has mapped it keeps what was mapped."""
        with _writing(self.folder):
            shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
        self.chunks = []

    def append(
        self,
        chunk: Chunk,
        values: dict[Side, NDArray[np.float32]],
        rows: dict[Side, NDArray[np.int64]],
    ) -> None:
        """Add one chunk, durably. Raises `DataError` where the disk is full."""
        assert chunk.start == self.rows, (chunk.start, self.rows)
        last = self.chunks[-1] if self.chunks else None
        with _writing(self.folder):
            for side in SIDES:
                held = getattr(last, side) if last else 0
                assert values[side].shape == (len(rows[side]), self.length)
                assert held + len(rows[side]) == getattr(chunk, side)
                _write(self._file(side, "f32"), 4 * self.length * held, values[side].astype("<f4"))
                _write(self._file(side, "rows"), 8 * held, rows[side].astype("<i8"))
            with open(self.folder / "journal.jsonl", "ab") as file:
                file.write((json.dumps(asdict(chunk)) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        self.chunks.append(chunk)

    def vectors(self, side: Side) -> Vectors:
        """All that is embedded of one modality. Raises `DataError` where files were damaged."""
        count = getattr(self.chunks[-1], side) if self.chunks else 0
        return Vectors(
            _mapped(self._file(side, "f32"), "<f4", (count, self.length)),
            np.array(_mapped(self._file(side, "rows"), "<i8", (count,))),
        )

    def _file(self, side: Side, kind: str) -> Path:
        return self.folder / f"{side}.{kind}"


def _read_journal(path: Path) -> list[Chunk]:
    """The chunks; a last line that a crash tore is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with _writing(path):
            os.truncate(path, len(whole))
    try:
        return [Chunk(**json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError):
        raise DataError(f"{path} is damaged: delete the folder and index anew") from None


def _write(path: Path, position: int, values: NDArray[Any]) -> None:
    """Write at `position` of the file, which ends there or beyond, and end it after that."""
    with open(path, "r+b" if path.exists() else "x+b") as file:
        file.truncate(position)
        file.seek(position)
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if 0 in shape:
        return np.empty(shape, dtype)
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    held = path.stat().st_size if path.exists() else 0
    if held < needed:
        raise DataError(
            f"{path} has {held:,} bytes, and its journal speaks of {needed:,}: delete the folder"
            " and index anew"
        )
    return np.memmap(path, dtype, "r", shape=shape)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> DataError:
    """What a user can do where embeddings cannot be kept."""
    return DataError(
        f"cannot write {path}: {error.strerror or error}; what was embedded before is kept:"
        " free some space and give the same command again"
    )
