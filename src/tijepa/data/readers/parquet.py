"""Parquet files: images as bytes, as Hugging Face's {"bytes", "path"}, or as paths.

Rows are read in small batches, so that memory holds a few images at a time (and, for files
written with one huge page, that page). Rows of one parquet file that name the same image file
become one item.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Columns, Row, find_columns, records_of_rows
from tijepa.data.readers.files import digest_of_files, glimpse, is_clutter, printable
from tijepa.data.readers.table import GroupedRows
from tijepa.data.records import Reader, ReaderOptions, Record, split_in_names
from tijepa.errors import DataError
from tijepa.io.formatting import first_line
from tijepa.registry import register

_BATCH = 32  # rows in memory at a time
_MAGIC = b"PAR1"
_UNREADABLE = (OSError, ValueError, NotImplementedError)  # errors of pyarrow are ones of these


@dataclass(frozen=True)
class _Layout:
    """Columns of one file, what they mean, and whether its images are paths."""

    names: tuple[str, ...]
    columns: Columns
    by_path: bool


_NONE = Columns((), (), ())


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
        self._count = 0
        self._layouts: dict[Path, _Layout] = {}  # by file; those that cannot be opened have none
        self._read_schemas(options)

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
            layout = self._layouts.get(file)
            if layout is not None and layout.by_path:
                for record in self._grouped(file, layout.columns).records():
                    if isinstance(record, Record) and record.split is None:
                        record = replace(record, split=split)
                    yield record
                continue
            columns = _NONE if layout is None else layout.columns
            rows = self._rows(file)
            yield from records_of_rows(rows, columns, label=label, split=split, root=self._root)

    def describe(self) -> str:
        """See `Reader.describe`."""
        count = len(self._files)
        named = str(self._files[0]) if count == 1 else f"{self._root}: {count:,} parquet files"
        ways = {layout.columns.describe(layout.names) for layout in self._layouts.values()}
        return f"{named}: {'; or '.join(sorted(ways))}"

    def fingerprint(self) -> str:
        """Of the parquet files and of the images that they name."""
        return digest_of_files(self._root, self._read_names())

    def count(self) -> int | None:
        """Number of rows, where images are in them; a file that cannot be opened counts as one."""
        by_path = any(layout.by_path for layout in self._layouts.values())
        return None if by_path else self._count

    def _read_names(self) -> Iterator[str]:
        for file in self._files:
            yield str(file.relative_to(self._root))
            layout = self._layouts.get(file)
            if layout is not None and layout.by_path:
                yield from self._grouped(file, layout.columns).images()

    def _read_schemas(self, options: ReaderOptions) -> None:
        """Columns of every file that can be opened, and the rows of all."""
        import pyarrow.parquet

        problem = ""
        for file in self._files:
            try:
                with pyarrow.parquet.ParquetFile(file) as table:
                    schema, rows = table.schema_arrow, table.metadata.num_rows
            except _UNREADABLE as error:
                problem = problem or f"{file} is no parquet file: {first_line(error)}; mend it"
                self._count += 1
                continue
            names = tuple(str(name) for name in schema.names)
            columns = find_columns(names, file, options)
            self._layouts[file] = _Layout(names, columns, _are_paths(schema, columns.image))
            self._count += rows
        if not self._layouts:
            raise DataError(problem)

    def _grouped(self, file: Path, columns: Columns) -> GroupedRows:
        rows = functools.partial(self._rows, file)
        return GroupedRows(rows, columns, self._root, f"{self._label(file)}.parquet")

    def _label(self, file: Path) -> str:
        return printable(file.relative_to(self._root).with_suffix("").as_posix())

    def _rows(self, file: Path) -> Iterator[Row | Rejected]:
        """The rows of `file`, numbered from 1; of a group that is damaged those before that."""
        import pyarrow.parquet

        label = f"{self._label(file)}.parquet"
        try:
            table = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        except _UNREADABLE as error:
            yield Rejected(label, f"cannot be read: {first_line(error)}")
            return
        with table:
            end = 0
            for group in range(table.num_row_groups):
                number, end = end, end + table.metadata.row_group(group).num_rows
                try:
                    for batch in table.iter_batches(_BATCH, row_groups=[group]):
                        for values in batch.to_pylist():
                            number += 1
                            yield Row(number, values)
                except _UNREADABLE as error:
                    reason = f"rows {number + 1:,} to {end:,} cannot be read: {first_line(error)}"
                    yield Rejected(label, reason, samples=end - number)


def _parquet_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".parquet" else []
    return sorted(
        path
        for path in source.rglob("*.parquet")
        if path.is_file() and not is_clutter(path.relative_to(source).as_posix())
    )


def _are_paths(schema: Any, columns: tuple[str, ...]) -> bool:
    import pyarrow.types

    kinds = [schema.field(name).type for name in columns]
    plain = [k.value_type if pyarrow.types.is_dictionary(k) else k for k in kinds]  # categories
    texts = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    return all(any(is_text(kind) for is_text in texts) for kind in plain)
