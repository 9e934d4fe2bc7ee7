"""What a store holds: image and captions of an item as one value, typed columns, metadata.

The value is the image file as it is, then the captions as a JSON list in UTF-8, then the length
of that list in 4 bytes, little-endian, so that reading an item is one access to the store. An item
without an image has no bytes before the list.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from tijepa.data.records import Numeral
from tijepa.errors import DataError

_LENGTH = 4  # bytes
REST = "more"  # the column of JSON objects that hold what fits no other column

_MOST_COLUMNS = 256  # of their own; a source with more has keys that are values
_ARROW = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "json": pa.string(),
}
_EXACT = 2**53  # whole numbers up to this are exact as float64


def pack(image: bytes | None, captions: Sequence[str]) -> bytes:
    """One value of both; `image` is an image file, so never empty, or None."""
    assert image is None or image, "an empty file is no image, and could not be told from None"
    texts = json.dumps(captions, ensure_ascii=False).encode()
    return b"".join((image or b"", texts, len(texts).to_bytes(_LENGTH, "little")))


def unpack(pair: bytes) -> tuple[bytes | None, tuple[str, ...]]:
    """What `pack` was given: the image file or None, and the captions."""
    end = len(pair) - _LENGTH
    start = end - int.from_bytes(pair[end:], "little")
    return pair[:start] or None, tuple(json.loads(pair[start:end]))


@dataclass(frozen=True)
class ExtraColumn:
    """The name in the source, the field of the store, and what it holds.

    `kind` is boolean, integer, number, text, or json for values of several or other types.
    """

    name: str
    field: str
    kind: str

    def fits(self, value: Any) -> bool:
        """Whether `value` can be held without loss; None always can."""
        return value is None or self.kind == "json" or self.kind in _kinds(value)


@dataclass(frozen=True)
class ExtraColumns:
    """Columns of a source beyond images, captions and splits, as typed columns of one store.

    A column's type is that of its values among the first rows. A value of another type that comes
    later, and a column that appears later, are kept as JSON in one further column, so nothing is
    lost.
    """

    columns: tuple[ExtraColumn, ...]

    @classmethod
    def infer(cls, rows: Iterable[Mapping[str, Any]]) -> ExtraColumns:
        """Columns for the values of `rows`, in order of appearance."""
        possible: dict[str, set[str] | None] = {}
        for row in rows:
            for name, value in row.items():
                known = possible.setdefault(name, None)
                if value is not None:
                    kinds = _kinds(value)
                    possible[name] = kinds if known is None else known & kinds
        fields: set[str] = set()
        columns = []
        for name, shared in list(possible.items())[:_MOST_COLUMNS]:
            kind = next((kind for kind in _ARROW if kind in (shared or ())), "json")
            columns.append(ExtraColumn(name, _field(name, fields), kind))
        return cls(tuple(columns))

    @property
    def fields(self) -> list[pa.Field]:
        """Fields of the schema, the one for the rest last."""
        own = [pa.field(column.field, _ARROW[column.kind]) for column in self.columns]
        return [*own, pa.field(REST, pa.string())]

    def arrays(self, rows: Sequence[Mapping[str, Any]]) -> list[pa.Array]:
        """The values of `rows` for each of `fields`."""
        rest: dict[int, dict[str, Any]] = {}  # by row; mostly empty
        arrays = []
        for column in self.columns:
            values = []
            for number, row in enumerate(rows):
                value = row.get(column.name)
                if not column.fits(value):
                    rest.setdefault(number, {})[column.name], value = value, None
                elif isinstance(value, Numeral) and column.kind in ("integer", "number"):
                    value = value.number
                elif column.kind == "json" and value is not None:
                    value = json.dumps(value)
                values.append(value)
            arrays.append(pa.array(values, _ARROW[column.kind]))
        known = {column.name for column in self.columns}
        for number, row in enumerate(rows):
            if not row.keys() <= known:
                new = {k: v for k, v in row.items() if k not in known and v is not None}
                if new:
                    rest.setdefault(number, {}).update(new)
        packed = [json.dumps(rest[i]) if i in rest else None for i in range(len(rows))]
        return [*arrays, pa.array(packed, pa.string())]

    def rows(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        """What `arrays` was given, from a batch that holds `fields`; without the Nones."""
        packed = batch.column(REST).to_pylist()
        rows: list[dict[str, Any]] = [json.loads(rest) if rest else {} for rest in packed]
        for column in self.columns:
            for row, value in zip(rows, batch.column(column.field).to_pylist(), strict=True):
                if value is not None:
                    row[column.name] = json.loads(value) if column.kind == "json" else value
        return rows

    def named(self, name: str) -> ExtraColumn | None:
        """The column of this name in the source, None where it has none of its own."""
        return next((column for column in self.columns if column.name == name), None)


def misfits(batch: pa.RecordBatch) -> Counter[str]:
    """How many values of each name no column holds: they are kept, and no filter finds them."""
    packed = filter(None, batch.column(REST).to_pylist())
    return Counter(name for rest in packed for name in json.loads(rest))


def _kinds(value: Any) -> set[str]:
    """The kinds that hold `value` without loss, json apart."""
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, Numeral):
        return {"text", *_kinds(value.number)}
    if isinstance(value, int):
        kinds = {"integer"} if -(2**63) <= value < 2**63 else set()
        return kinds | ({"number"} if abs(value) <= _EXACT else set())
    if isinstance(value, float):
        return {"number"}
    if isinstance(value, str) and (value.isascii() or not re.search("[\ud800-\udfff]", value)):
        return {"text"}
    return set()


def _field(name: str, taken: set[str]) -> str:
    """A field name of letters that Lance takes, unlike those before."""
    base = field = "extra_" + re.sub(r"\W", "_", name, flags=re.ASCII).lower()
    number = 1
    while field in taken:
        number += 1
        field = f"{base}_{number}"
    taken.add(field)
    return field


if TYPE_CHECKING:
    import lance

SCHEMA_VERSION = 2  # 2: image and captions in one column
STORAGE_VERSION: Final = "2.1"  # of Lance's files; docs/decisions/0007 compares them

_KEY = b"tijepa.store"
# values of one row lie together, so that reading a row is one access to each column read
_TOGETHER = {"lance-encoding:structural-encoding": "fullzip"}
_FIELDS = (
    pa.field("id", pa.string(), nullable=False, metadata=_TOGETHER),
    pa.field("pair", pa.large_binary(), nullable=False, metadata=_TOGETHER),  # see `pack`
    pa.field("captions", pa.list_(pa.string()), nullable=False, metadata=_TOGETHER),
    pa.field("split", pa.string(), nullable=False),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
    pa.field("reference", pa.string(), nullable=False),
    pa.field("content_hash", pa.string(), nullable=False),
    pa.field("look", pa.uint64()),  # dHash of the image
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class StoreInfo:
    """What a store says about itself.

    `splits` is "named" where the source named the split of every item and "hashed" where they were
    drawn by a hash of the id. `source` is the source that it was first made from, in words.
    """

    source: str
    splits: str
    extras: ExtraColumns

    def to_metadata(self) -> dict[bytes, bytes]:
        """For the schema of the dataset."""
        values = {
            "schema": SCHEMA_VERSION,
            "source": self.source,
            "splits": self.splits,
            "columns": [asdict(column) for column in self.extras.columns],
        }
        return {_KEY: json.dumps(values).encode()}

    @classmethod
    def of(cls, schema: pa.Schema, uri: str) -> StoreInfo:
        """Read from the schema of the dataset at `uri`; `DataError` where it is not a store."""
        text = (schema.metadata or {}).get(_KEY)
        if text is None:
            raise DataError(
                f"{uri} is a Lance dataset that tijepa prepare did not write; make a store of it "
                "with: tijepa prepare SOURCE --out NAME.lance"
            )
        values: dict[str, Any] = json.loads(text)
        if values["schema"] != SCHEMA_VERSION:
            raise DataError(
                f"{uri} is a store of schema {values['schema']}, and this version of tijepa reads "
                f"{SCHEMA_VERSION}: prepare it anew"
            )
        columns = tuple(ExtraColumn(**column) for column in values["columns"])
        return cls(values["source"], values["splits"], ExtraColumns(columns))


def schema_of(info: StoreInfo) -> pa.Schema:
    """All columns, with the metadata."""
    return pa.schema([*_FIELDS, *info.extras.fields], metadata=info.to_metadata())


def is_store(source: str) -> bool:
    """Whether `source` names a store: a path or URI that ends with .lance."""
    return source.rstrip("/").endswith(".lance")


def is_remote(uri: str) -> bool:
    """Whether `uri` lies on object storage, as opposed to a path of this machine."""
    return _SCHEME.match(uri) is not None and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path that a local `uri` means."""
    return Path(uri.removeprefix("file://")).expanduser()


def store_exists(uri: str) -> bool:
    """Whether something stands at `uri`: any file or folder, on object storage a dataset."""
    if not is_remote(uri):
        return os.path.lexists(local_path(uri))
    import lance

    try:
        lance.dataset(uri)
    except ValueError as error:
        if _is_missing(error):
            return False
        raise _problem(uri, error) from None
    except OSError as error:
        raise _problem(uri, error) from None
    return True


def open_dataset(uri: str, version: int | None = None) -> lance.LanceDataset:
    """The dataset at `uri`, its latest version unless one is given.

    Object storage is reached with what the environment says (AWS_ACCESS_KEY_ID, AWS_ENDPOINT and
    so on). Raises `DataError` where there is none, or no longer that version.
    """
    import lance

    place = uri if is_remote(uri) else str(local_path(uri))
    try:
        return lance.dataset(place, version=version)
    except (ValueError, OSError) as error:
        if not _is_missing(error):
            raise _problem(uri, error) from None
    if version is not None:
        latest = open_dataset(uri).version
        raise DataError(
            f"{uri} no longer has version {version}, which was recorded (its latest is {latest}): "
            "restore it, or start anew with what is there"
        )
    raise DataError(
        f"there is no store at {uri}: check the path, or make one with: tijepa prepare SOURCE "
        f"--out {uri}"
    )


def storage_problem(error: Exception) -> str:
    """What the storage says, in one line without places in Lance's own code."""
    text = " ".join(str(error).split("/rustc/")[0].split("/home/runner/")[0].split())
    number = re.search(r"os error (\d+)", text)
    if number:
        return os.strerror(int(number[1])).lower()
    return text.removeprefix("LanceError(IO): ").rstrip(" ,")[:300]


def _problem(uri: str, error: Exception) -> DataError:
    return DataError(f"{uri} cannot be opened: {storage_problem(error)}; check it and your access")


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ValueError) and "was not found" in str(error)
