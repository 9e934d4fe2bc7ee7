"""Splits of the `datasets` library, on disk, on the hub or loaded, and items that a program holds.

Image files keep their bytes. Data of a program go by the name `memory:DIGEST`, a hash of what they
hold, so that the store that is prepared of them is found again, by a later program too, whether or
not it holds them.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Row, find_columns, records_of_rows
from tijepa.data.readers.files import digest_of_files
from tijepa.data.records import Reader, ReaderOptions, Record, canonical_split
from tijepa.errors import DataError, MissingExtraError
from tijepa.io.formatting import first_line
from tijepa.registry import register

Rows = Mapping[str, Any]
_PREFIXES = ("hub:", "hf://datasets/")
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


class DatasetsReader(Reader):
    """A loaded `Dataset` or `DatasetDict`; the splits of the latter keep their names.

    Images stored as paths are read from `root`, or from anywhere where that is None.
    """

    _kind: ClassVar[str] = ""  # begins the description

    def __init__(
        self, source: str, options: ReaderOptions, *, loaded: Any, root: Path | None
    ) -> None:
        self._source = source
        self._root = root
        self._splits: dict[str | None, Any] = (
            {str(name): split for name, split in loaded.items()}
            if isinstance(loaded, dict)
            else {None: loaded}
        )
        if not self._splits:
            raise DataError(f"{source} holds no split")
        self._columns = {
            name: find_columns(tuple(split.column_names), source, options)
            for name, split in self._splits.items()
        }

    def __iter__(self) -> Iterator[Record | Rejected]:
        for name, split in self._splits.items():
            label = name or "row"
            yield from records_of_rows(
                _rows(_undecoded(split), label),
                self._columns[name],
                label=label,
                split=None if name is None else canonical_split(name),
                root=self._root,
            )

    def describe(self) -> str:
        """See `Reader.describe`; by the first split."""
        name, split = next(iter(self._splits.items()))
        described = self._columns[name].describe(split.column_names)
        names = ", ".join(str(name) for name in self._splits if name is not None)
        return f"{self._source}: {self._kind}{described}; splits: {names or 'none'}"

    def count(self) -> int:
        """Number of rows."""
        return sum(split.num_rows for split in self._splits.values())

    def fingerprint(self) -> str:
        """Of names, columns, row numbers and the files that hold them."""
        digest = hashlib.blake2b(digest_size=16)
        for name, split in self._splits.items():
            digest.update(repr((name, split.num_rows, split.features)).encode())
            for file in split.cache_files:
                path = Path(file["filename"])
                status = path.stat()
                digest.update(repr((path.name, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


@register("reader", "hf_disk")
class DiskDatasetReader(DatasetsReader):
    """A `Dataset` or `DatasetDict` on disk."""

    name: ClassVar[str] = "hf_disk"
    priority: ClassVar[int] = 40
    layout: ClassVar[str] = "a folder written by save_to_disk of datasets"
    _kind: ClassVar[str] = "saved by datasets; "

    def __init__(self, source: str, options: ReaderOptions) -> None:
        loaded = _loaded(
            lambda datasets: datasets.load_from_disk(source),
            lambda reason: f"{source} cannot be loaded by datasets: {reason}",
        )
        super().__init__(source, options, loaded=loaded, root=Path(source))

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

    def fingerprint(self) -> str:
        """Of all files of the folder."""
        root = Path(self._source)
        files = (path for path in root.rglob("*") if path.suffix in (".arrow", ".json"))
        return digest_of_files(root, sorted(str(path.relative_to(root)) for path in files))


@register("reader", "hub")
class HubReader(DatasetsReader):
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
        loaded = _loaded(
            lambda datasets: datasets.load_dataset(*parts.groups()),
            lambda reason: (
                f"cannot load {source} from the hub: {reason}; check the name and the network, or "
                "save it with save_to_disk elsewhere and name that folder"
            ),
        )
        super().__init__(source, options, loaded=loaded, root=None)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its prefix."""
        return source.startswith(_PREFIXES)


def import_datasets() -> Any:
    """The package `datasets`, an optional one."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "data") from None
    return datasets


def _loaded(load: Callable[[Any], Any], problem: Callable[[str], str]) -> Any:
    datasets = import_datasets()
    try:
        return load(datasets)
    except Exception as error:  # noqa: BLE001 (network, hub, damaged files: anything is raised)
        raise DataError(problem(first_line(error))) from None


def _rows(split: Any, label: str) -> Iterator[Row | Rejected]:
    """All rows, or those before the first that cannot be read."""
    import pyarrow

    number = 0
    classes = _class_names(split)
    try:
        split.data.validate(full=True)  # damaged offsets would lead out of the memory
        for number, values in enumerate(split, start=1):
            yield Row(number, _named(values, classes))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = f"this row and those after it cannot be read: {first_line(error)}"
        yield Rejected(f"{label}:{number + 1}", reason, samples=split.num_rows - number)


def _undecoded(split: Any) -> Any:
    """The split with images as bytes and path instead of decoded."""
    datasets = import_datasets()
    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))
    return split.with_format(None)


def _class_names(split: Any) -> dict[str, list[str]]:
    """The names of classes by the columns that hold their numbers."""
    datasets = import_datasets()
    return {
        name: list(feature.names)
        for name, feature in split.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }


def _named(values: Rows, classes: Mapping[str, list[str]]) -> Rows:
    """A row with the names of its classes; a number that has none, such as -1, is none."""
    names = {
        column: names[values[column]] if values[column] in range(len(names)) else None
        for column, names in classes.items()
    }
    return {**values, **names}


PREFIX = "memory:"
_WHERE = "the data given"

_given: dict[str, _Items | _Datasets] = {}


@register("reader", "memory")
class InMemoryReader(Reader):
    """What `remember` was given in this process."""

    name: ClassVar[str] = "memory"
    layout: ClassVar[str] = "data given to tijepa.train"
    follows: ClassVar[frozenset[str]] = frozenset()
    priority: ClassVar[int] = 10
    addresses: ClassVar[bool] = True

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        self._source = source
        self._rows = _given.get(source)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its prefix."""
        return source.startswith(PREFIX)

    def __iter__(self) -> Iterator[Record | Rejected]:
        if self._rows is None:
            raise DataError(
                f"{self._source} were data of a program, of which no prepared store is kept: give"
                " the same data to tijepa.train"
            )
        return iter(self._rows)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._source}: data of a program"

    def fingerprint(self) -> str:
        """The digest of the name."""
        return self._source.removeprefix(PREFIX)

    def count(self) -> int | None:
        """Number of items."""
        return None if self._rows is None else self._rows.count()


def remember(data: Iterable[Rows] | Mapping[str, Iterable[Rows]]) -> str:
    """Keep data for readers of this process and return the source that names them.

    An item is a mapping with an image (a path, the bytes of a file, a PIL image, or an array uint8
    (h, w, 3) or (h, w)), captions (one or several), or both, and further columns; the names of its
    keys are those that a table's columns may have, and `split` and `id` are what they say. Where
    data are a mapping, its keys are splits. A `Dataset` or `DatasetDict` of the `datasets` library
    is read as it lies; an iterator is read into memory, once. Raises `DataError` where there is no
    item, or no key that can hold an image or a caption.
    """
    datasets = sys.modules.get("datasets")
    rows: _Items | _Datasets
    if datasets is not None and isinstance(data, (datasets.Dataset, datasets.DatasetDict)):
        rows = _Datasets(_WHERE, ReaderOptions(), loaded=data, root=None)
        whole = list(data.values()) if isinstance(data, dict) else [data]
        digest = _hash([rows.fingerprint(), *(str(split._fingerprint) for split in whole)])
    else:
        splits = data.items() if isinstance(data, Mapping) else [(None, data)]
        rows = _Items({name: list(items) for name, items in splits})
        digest = _hash(rows.facts())
    source = f"{PREFIX}{digest}"
    _given[source] = rows
    return source


class _Datasets(DatasetsReader):
    """What `datasets` has loaded."""

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By no name: it is given."""
        return False


class _Items:
    """Mappings by split; None is the split of those that name their own, or none."""

    def __init__(self, splits: Mapping[str | None, list[Rows]]) -> None:
        self._splits = splits
        names = dict.fromkeys(key for items in splits.values() for item in items for key in item)
        if not names:
            raise DataError(f"{_WHERE} hold no item: give mappings with image and captions")
        self._columns = find_columns(tuple(names), _WHERE, ReaderOptions())

    def __iter__(self) -> Iterator[Record | Rejected]:
        for split, items in self._splits.items():
            yield from records_of_rows(
                (
                    Row(number, {key: _plain(value) for key, value in item.items()})
                    for number, item in enumerate(items, start=1)
                ),
                self._columns,
                label=split or "item",
                split=None if split is None else canonical_split(split),
                root=None,
            )

    def count(self) -> int:
        return sum(len(items) for items in self._splits.values())

    def facts(self) -> Iterator[bytes | str]:
        """Everything that tells these items from others."""
        for split, items in self._splits.items():
            yield f"{split} {len(items)}"
            for item in items:
                for key, value in item.items():
                    yield key
                    yield _content(value)


def _plain(value: Any) -> Any:
    """A path as text, an array as an image."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        return Image.fromarray(value)
    return value


def _content(value: Any) -> bytes | str:
    """Of a path the file's size and time stand for what it holds."""
    if isinstance(value, Image.Image):
        return f"{value.mode} {value.size} ".encode() + value.tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} ".encode() + value.tobytes()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | os.PathLike) and len(str(value)) < 4096 and "\0" not in str(value):
        path = Path(value)
        if path.is_file():
            status = path.stat()
            return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"
    return repr(value)


def _hash(facts: Iterable[bytes | str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for fact in facts:
        data = fact if isinstance(fact, bytes) else fact.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
