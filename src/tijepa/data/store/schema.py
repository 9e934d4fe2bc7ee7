"""The columns of a store, and what its metadata say."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from tijepa.data.store.extras import ExtraColumn, ExtraColumns
from tijepa.errors import DataError

__all__ = ["SCHEMA_VERSION", "STORAGE_VERSION", "StoreInfo", "schema_of"]

SCHEMA_VERSION = 2  # 2: picture and captions in one column
STORAGE_VERSION: Final = "2.1"  # of Lance's files; docs/decisions/0007 compares them

_KEY = b"tijepa.store"
# values of one row lie together, so that reading a row is one access to each column read
_TOGETHER = {"lance-encoding:structural-encoding": "fullzip"}
_FIELDS = (
    pa.field("id", pa.string(), nullable=False, metadata=_TOGETHER),
    pa.field("pair", pa.large_binary(), nullable=False, metadata=_TOGETHER),  # see packing.py
    pa.field("captions", pa.list_(pa.string()), nullable=False, metadata=_TOGETHER),
    pa.field("split", pa.string(), nullable=False),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
    pa.field("reference", pa.string(), nullable=False),
    pa.field("content_hash", pa.string(), nullable=False),
    pa.field("look", pa.uint64()),  # dHash of the picture
)


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
