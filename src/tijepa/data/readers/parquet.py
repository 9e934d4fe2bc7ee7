"""Parquet files: images as bytes, as Hugging Face's {"bytes", "path"}, or as paths.

Rows are read in small batches, so that memory holds a few images at a time (and, for files
written with one huge page, that page). Rows of one parquet file that name the same image file
become one item.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Row, find_columns, records_of_rows
from tijepa.data.readers.files import digest_of_files, glimpse, printable
from tijepa.data.readers.table import GroupedRows
from tijepa.data.records import Reader, ReaderOptions, Record, split_in_names
from tijepa.errors import DataError
from tijepa.io.formatting import first_line
from tijepa.registry import register

_BATCH = 32  # rows in memory at a time
_MAGIC = b"PAR1"


@register("reader", "parquet")
class ParquetReader(Reader):
    """Rows of parquet files."""

    name: ClassVar[str] = "parquet"
    priority: ClassVar[int] = 100
    layout: ClassVar[str] = "a .parquet file or a folder of them"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        path = Path(source)
        self._root = path if path.is_dir() else path.parent
        self._files = _parquet_files(path)
        if not self._files:
            raise DataError(f"{source} holds no .parquet file")
        self._schema, self._count = _schema_and_rows(self._files)
        self._names = [str(name) for name in self._schema.names]
        self._columns = find_columns(self._names, self._files[0], options)
        self._by_path = _are_paths(self._schema, self._columns.image)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether a file there ends in .parquet and begins as such."""
        try:
            return any(glimpse(file, 0, 4) == _MAGIC for file in _parquet_files(Path(source)))
        except (OSError, ValueError):
            return False

    def __iter__(self) -> Iterator[Record | Rejected]:
        for file in self._files:
            label = self._label(file)
            split = split_in_names(reversed(label.split("/")))  # train-000-of-002, test/0000
            if self._by_path:
                for record in self._grouped(file).records():
                    if isinstance(record, Record) and record.split is None:
                        record = replace(record, split=split)
                    yield record
                continue
            rows = self._rows(file)
            yield from records_of_rows(
                rows, self._columns, label=label, split=split, root=self._root
            )

    def describe(self) -> str:
        """See `Reader.describe`."""
        count = len(self._files)
        named = str(self._files[0]) if count == 1 else f"{self._root}: {count:,} parquet files"
        return f"{named}: {self._columns.describe(self._names)}"

    def fingerprint(self) -> str:
        """Of the parquet files and of the images that they name."""
        return digest_of_files(self._root, self._read_names())

    def count(self) -> int | None:
        """Number of rows, where images are in them."""
        return None if self._by_path else self._count

    def _read_names(self) -> Iterator[str]:
        for file in self._files:
            yield str(file.relative_to(self._root))
            if self._by_path:
                yield from self._grouped(file).images()

    def _grouped(self, file: Path) -> GroupedRows:
        rows = functools.partial(self._rows, file)
        return GroupedRows(rows, self._columns, self._root, f"{self._label(file)}.parquet")

    def _label(self, file: Path) -> str:
        return printable(file.relative_to(self._root).with_suffix("").as_posix())

    def _rows(self, file: Path) -> Iterator[Row | Rejected]:
        """The rows of `file`, numbered from 1; what cannot be read as one `Rejected`."""
        import pyarrow
        import pyarrow.parquet

        number = 0
        try:
            with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as table:
                for batch in table.iter_batches(_BATCH):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, values)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            label = f"{self._label(file)}.parquet"
            reason = f"cannot be read after row {number:,}: {first_line(error)}"
            yield Rejected(label, reason)


def _parquet_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".parquet" else []
    return sorted(path for path in source.rglob("*.parquet") if path.is_file())


def _schema_and_rows(files: list[Path]) -> tuple[Any, int]:
    """Schema of the first file that can be opened, and rows of all that can."""
    import pyarrow
    import pyarrow.parquet

    schema, rows, problem = None, 0, ""
    for file in files:
        try:
            with pyarrow.parquet.ParquetFile(file) as table:
                schema = table.schema_arrow if schema is None else schema
                rows += table.metadata.num_rows
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            problem = problem or f"{file} is no parquet file: {first_line(error)}; mend it"
    if schema is None:
        raise DataError(problem)
    return schema, rows


def _are_paths(schema: Any, columns: tuple[str, ...]) -> bool:
    import pyarrow.types

    kinds = [schema.field(name).type for name in columns]
    return all(pyarrow.types.is_string(k) or pyarrow.types.is_large_string(k) for k in kinds)
