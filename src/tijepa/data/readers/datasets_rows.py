"""Splits of the `datasets` library to records; picture files keep their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tijepa.data.pairs import SetAside
from tijepa.data.readers.cells import record_of_row
from tijepa.data.readers.columns import Columns, find_columns
from tijepa.data.records import ReaderOptions, Record
from tijepa.data.splits import canonical_split
from tijepa.errors import DataError, MissingExtraError

__all__ = ["DatasetsRows", "import_datasets"]


def import_datasets() -> Any:
    """The package `datasets`, an optional one."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "data") from None
    return datasets


class DatasetsRows:
    """A `Dataset` or `DatasetDict`; the splits of the latter keep their names.

    Pictures stored as paths are read from `root`, or from anywhere where that is None.
    """

    def __init__(self, loaded: Any, where: str, options: ReaderOptions, root: Path | None) -> None:
        self._root = root
        self._splits: dict[str | None, Any] = (
            {str(name): split for name, split in loaded.items()}
            if isinstance(loaded, dict)
            else {None: loaded}
        )
        if not self._splits:
            raise DataError(f"{where} holds no split")
        self._columns = {
            name: find_columns(tuple(split.column_names), where, options)
            for name, split in self._splits.items()
        }

    def records(self) -> Iterator[Record | SetAside]:
        """All rows of all splits."""
        for name, split in self._splits.items():
            yield from self._of_split(name, _undecoded(split), self._columns[name])

    def describe(self) -> str:
        """Which columns hold what, by the first split."""
        name, split = next(iter(self._splits.items()))
        described = self._columns[name].describe(split.column_names)
        names = ", ".join(str(name) for name in self._splits if name is not None)
        return f"{described}; splits: {names or 'none'}"

    def count(self) -> int:
        """Number of rows."""
        return sum(split.num_rows for split in self._splits.values())

    def fingerprint(self) -> str:
        """Hex digest of names, columns, row numbers and the files that hold them."""
        digest = hashlib.blake2b(digest_size=16)
        for name, split in self._splits.items():
            digest.update(repr((name, split.num_rows, split.features)).encode())
            for file in split.cache_files:
                path = Path(file["filename"])
                status = path.stat()
                digest.update(repr((path.name, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()

    def _of_split(
        self, split_name: str | None, split: Any, columns: Columns
    ) -> Iterator[Record | SetAside]:
        own = None if split_name is None else canonical_split(split_name)
        for number, row in enumerate(_rows(split), start=1):
            name = f"{split_name or 'row'}:{number}"
            if isinstance(row, SetAside):
                yield SetAside(name, row.reason)
                continue
            try:
                yield record_of_row(row, columns, name=name, split=own, root=self._root)
            except DataError as error:
                yield SetAside(name, str(error))


def _rows(split: Any) -> Iterator[Mapping[str, Any] | SetAside]:
    """All rows, or those before the first that cannot be read."""
    import pyarrow

    try:
        split.data.validate(full=True)  # damaged offsets would lead out of the memory
        yield from split
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield SetAside("", f"this row and those after it cannot be read: {reason}")


def _undecoded(split: Any) -> Any:
    """The split with picture columns as bytes and path instead of decoded pictures."""
    datasets = import_datasets()
    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))
    return split.with_format(None)
