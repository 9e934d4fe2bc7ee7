"""A folder written by `save_to_disk` of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.readers.datasets_rows import DatasetsRows, import_datasets
from tijepa.data.readers.files import digest_of_files
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError

__all__ = ["DiskDatasetReader"]


class DiskDatasetReader(Reader):
    """A `Dataset` or `DatasetDict` on disk."""

    name: ClassVar[str] = "hf_disk"
    layout: ClassVar[str] = "a folder written by save_to_disk of datasets"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        datasets = import_datasets()
        self._source = source
        try:
            loaded = datasets.load_from_disk(source)
        except Exception as error:  # noqa: BLE001 (damaged files make the library raise anything)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{source} cannot be loaded by datasets: {reason}") from None
        self._rows = DatasetsRows(loaded, source, options, root=Path(source))

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether the folder has the library's own descriptions in it."""
        folder = Path(source)
        try:
            return (folder / "dataset_dict.json").is_file() or (
                (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
            )
        except (OSError, ValueError):
            return False

    def __iter__(self) -> Iterator[Record | SetAside]:
        return self._rows.records()

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._source}: saved by datasets; {self._rows.describe()}"

    def fingerprint(self) -> str:
        """Of all files of the folder."""
        root = Path(self._source)
        files = (path for path in root.rglob("*") if path.suffix in (".arrow", ".json"))
        return digest_of_files(root, sorted(str(path.relative_to(root)) for path in files))

    def count(self) -> int | None:
        """Number of rows."""
        return self._rows.count()
