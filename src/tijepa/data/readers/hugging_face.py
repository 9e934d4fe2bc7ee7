"""Splits of the `datasets` library to records; image files keep their bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Columns, find_columns, record_of_row
from tijepa.data.readers.files import digest_of_files
from tijepa.data.records import Reader, ReaderOptions, Record, canonical_split
from tijepa.errors import DataError, MissingExtraError
from tijepa.io.formatting import first_line
from tijepa.registry import register


def import_datasets() -> Any:
    """The package `datasets`, an optional one."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "data") from None
    return datasets


class DatasetsRows:
    """A `Dataset` or `DatasetDict`; the splits of the latter keep their names.

    Images stored as paths are read from `root`, or from anywhere where that is None.
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

    def records(self) -> Iterator[Record | Rejected]:
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
    ) -> Iterator[Record | Rejected]:
        own = None if split_name is None else canonical_split(split_name)
        for number, row in enumerate(_rows(split), start=1):
            name = f"{split_name or 'row'}:{number}"
            if isinstance(row, Rejected):
                yield Rejected(name, row.reason)
                continue
            try:
                yield record_of_row(row, columns, name=name, split=own, root=self._root)
            except DataError as error:
                yield Rejected(name, str(error))


def _rows(split: Any) -> Iterator[Mapping[str, Any] | Rejected]:
    """All rows, or those before the first that cannot be read."""
    import pyarrow

    try:
        split.data.validate(full=True)  # damaged offsets would lead out of the memory
        yield from split
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = first_line(error)
        yield Rejected("", f"this row and those after it cannot be read: {reason}")


def _undecoded(split: Any) -> Any:
    """The split with image columns as bytes and path instead of decoded images."""
    datasets = import_datasets()
    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))
    return split.with_format(None)


# A folder written by `save_to_disk` of Hugging Face's `datasets`.


@register("reader", "hf_disk")
class DiskDatasetReader(Reader):
    """A `Dataset` or `DatasetDict` on disk."""

    name: ClassVar[str] = "hf_disk"
    priority: ClassVar[int] = 40
    layout: ClassVar[str] = "a folder written by save_to_disk of datasets"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        datasets = import_datasets()
        self._source = source
        try:
            loaded = datasets.load_from_disk(source)
        except Exception as error:  # noqa: BLE001 (damaged files make the library raise anything)
            reason = first_line(error)
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

    def __iter__(self) -> Iterator[Record | Rejected]:
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


# A data set of the Hugging Face hub by its name: hub:OWNER/NAME or hub:OWNER/NAME:CONFIG.


_PREFIXES = ("hub:", "hf://datasets/")
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


@register("reader", "hub")
class HubReader(Reader):
    """A data set that `datasets` downloads, or has downloaded, into its cache."""

    name: ClassVar[str] = "hub"
    priority: ClassVar[int] = 20
    addresses: ClassVar[bool] = True
    layout: ClassVar[str] = "hub:OWNER/NAME"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        prefix = next((start for start in _PREFIXES if source.startswith(start)), "")
        parts = _NAME.fullmatch(source.removeprefix(prefix))
        if not parts:
            raise DataError(f"'{source}' names no data set of the hub: write hub:OWNER/NAME")
        datasets = import_datasets()
        self._source = source
        repository, config = parts.groups()
        try:
            loaded = datasets.load_dataset(repository, config)
        except Exception as error:  # noqa: BLE001 (network, hub and builders raise anything)
            reason = first_line(error)
            raise DataError(
                f"cannot load {source} from the hub: {reason}; check the name and the network, or "
                "save it with save_to_disk elsewhere and name that folder"
            ) from None
        self._rows = DatasetsRows(loaded, source, options, root=None)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its prefix."""
        return source.startswith(_PREFIXES)

    def __iter__(self) -> Iterator[Record | Rejected]:
        return self._rows.records()

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._source}: {self._rows.describe()}"

    def fingerprint(self) -> str:
        """Of what the library keeps in its cache."""
        return self._rows.fingerprint()

    def count(self) -> int | None:
        """Number of rows."""
        return self._rows.count()
