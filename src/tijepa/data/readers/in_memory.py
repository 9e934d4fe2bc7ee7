"""Data that a program holds: items as mappings, or splits of the `datasets` library.

They go by the name `memory:DIGEST`, a hash of what they hold, so that the store that is prepared
of them is found again, by a later program too, whether or not it holds them.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import Row, find_columns, records_of_rows
from tijepa.data.readers.hugging_face import DatasetsReader
from tijepa.data.records import Reader, ReaderOptions, Record, canonical_split
from tijepa.errors import DataError
from tijepa.registry import register

PREFIX = "memory:"
_WHERE = "the data given"

Rows = Mapping[str, Any]
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
