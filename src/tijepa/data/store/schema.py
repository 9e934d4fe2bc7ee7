"""The columns of a store, and what its metadata say."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from tijepa.data.store.codec import ExtraColumn, ExtraColumns
from tijepa.errors import DataError

if TYPE_CHECKING:
    import lance

SCHEMA_VERSION = 2  # 2: image and captions in one column
STORAGE_VERSION: Final = "2.1"  # of Lance's files; docs/decisions/0007 compares them

_KEY = b"tijepa.store"
# values of one row lie together, so that reading a row is one access to each column read
_TOGETHER = {"lance-encoding:structural-encoding": "fullzip"}
_FIELDS = (
    pa.field("id", pa.string(), nullable=False, metadata=_TOGETHER),
    pa.field("pair", pa.large_binary(), nullable=False, metadata=_TOGETHER),  # see codec.py
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
