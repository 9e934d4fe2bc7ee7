"""A whole annotation file in JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tijepa.data.readers.values import read_json
from tijepa.errors import DataError

__all__ = ["load_json_file"]

_MAX_BYTES = 4_000_000_000  # parsed, it takes several times as much memory


def load_json_file(file: Path) -> Any:
    """Parse `file`; `DataError` naming it if it cannot be read, is too large or is invalid."""
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{file} has {size:,} bytes, above the bound of {_MAX_BYTES:,}: cut it")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check its permissions") from None
    try:
        return read_json(data)
    except DataError as error:
        raise DataError(f"{file}: {error}; mend it") from None
