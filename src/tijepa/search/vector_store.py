"""Joint embeddings of a store on disk: what is written stays after an interrupt.

`images.f32` and `texts.f32` (`.f16` in half precision, which long rows have) hold one embedding
after the other, `images.rows` and `texts.rows` the store row of each, and the journal has one line
for each chunk of store rows (`io/vectors.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tijepa.errors import DataError
from tijepa.io.vectors import JOURNAL, Column, VectorFiles

Side = Literal["images", "texts"]
SIDES: tuple[Side, Side] = ("images", "texts")
HALF_FROM = 256  # numbers of a row
_REMEDY = "delete the folder and index anew"


@dataclass(frozen=True)
class Chunk:
    """Store rows `start` to `stop` (exclusive), embedded; the other numbers count from row 0 on.

    `digest` is that of the rows' content, `unreadable` the images that gave no embedding.
    """

    start: int = 0
    stop: int = 0
    digest: str = ""
    images: int = 0
    texts: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Vectors:
    """Joint embeddings of one modality, mapped from disk, and the store row of each, ascending.

    `values` are of half precision where rows are long.
    """

    values: NDArray[np.floating]
    rows: NDArray[np.int64]

    def numbers(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each vector among those of its own row: which of the captions a text is."""
        return places - np.searchsorted(self.rows, self.rows[places])


class VectorStore:
    """The embeddings of one model on one store; `length` numbers each.

    With `rows` only chunks of the first `rows` rows of the store are seen: what stood there before
    more was appended. Such a vector store is for reading. Raises `DataError` where it is damaged.
    """

    def __init__(self, folder: Path, length: int, rows: int | None = None) -> None:
        self.folder = folder
        self.length = length
        columns: dict[str, Column] = {}
        half = length >= HALF_FROM and not (folder / "images.f32").exists()
        suffix, kind = ("f16", "<f2") if half else ("f32", "<f4")
        for side in SIDES:
            columns[side] = Column(f"{side}.{suffix}", kind, side, length)
            columns[f"{side} rows"] = Column(f"{side}.rows", "<i8", side)
        self._files = VectorFiles(folder, columns, unwritable=unwritable, remedy=_REMEDY)
        try:
            held = [Chunk(**line) for line in self._files.lines]
        except TypeError:
            raise DataError(f"{folder / JOURNAL} is damaged: {_REMEDY}") from None
        self.chunks = [chunk for chunk in held if rows is None or chunk.stop <= rows]

    @property
    def last(self) -> Chunk:
        """The last chunk, which counts them all; an empty one where there is none."""
        return self.chunks[-1] if self.chunks else Chunk()

    @property
    def rows(self) -> int:
        """How many rows of the store are embedded."""
        return self.last.stop

    def clear(self) -> None:
        """Throw everything away. Whoever has mapped it keeps what was mapped."""
        self._files.clear()
        self.chunks = []

    def append(
        self,
        chunk: Chunk,
        values: dict[Side, NDArray[np.float32]],
        rows: dict[Side, NDArray[np.int64]],
    ) -> None:
        """Add one chunk, durably. Raises `DataError` where the disk is full."""
        assert chunk.start == self.rows, (chunk.start, self.rows)
        columns: dict[str, NDArray[Any]] = {}
        for side in SIDES:
            columns |= {side: values[side], f"{side} rows": rows[side]}
        self._files.append(asdict(chunk), columns)
        self.chunks.append(chunk)

    def vectors(self, side: Side) -> Vectors:
        """All that is embedded of one modality. Raises `DataError` where files were damaged."""
        line = asdict(self.last)
        return Vectors(
            self._files.rows(side, line), np.array(self._files.rows(f"{side} rows", line))
        )


def unwritable(path: Path, error: OSError) -> DataError:
    """What a user can do where embeddings cannot be kept."""
    return DataError(
        f"cannot write {path}: {error.strerror or error}; what was embedded before is kept:"
        " free some space and give the same command again"
    )
