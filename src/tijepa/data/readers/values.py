"""Values of a row or of a JSON text, brought into the form that records promise."""

from __future__ import annotations

import base64
import json
import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from tijepa.data.readers.files import printable
from tijepa.data.splits import canonical_split
from tijepa.errors import DataError

__all__ = ["captions_of", "extra_of", "item_name", "read_json", "split_of_value"]

_MAX_DEPTH = 64


def read_json(data: bytes) -> Any:
    """Parse UTF-8 JSON; `DataError` with a short reason if it is invalid.

    An object that holds a key twice is refused: which value is meant nobody can know. NaN and
    Infinity, which JSON does not have but Python writes for missing numbers, are null.
    """
    try:
        return _DECODER.decode(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError("invalid UTF-8") from None
    except RecursionError:
        raise DataError("invalid JSON: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"invalid JSON: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands twice in one object")
    return values


def _missing(name: str) -> None:
    del name


_DECODER = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_constant=_missing)


def captions_of(value: Any) -> tuple[Any, ...]:
    """A cell as captions: a list is several, null none. Whether they are text, the check judges."""
    if value is None:
        return ()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return (value,)


def split_of_value(value: Any) -> str:
    """A cell as the canonical name of a split; `DataError` if it is none."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"split is {value!r:.80}, while other rows name one")
    return printable(canonical_split(value))


def item_name(given: Any, otherwise: str) -> str:
    """The id that a source gives an item, else `otherwise`."""
    usable = isinstance(given, (str, int)) and not isinstance(given, bool) and str(given).strip()
    return printable(str(given) if usable else otherwise)


def extra_of(values: dict[str, Any]) -> dict[str, Any]:
    """Further columns as JSON can hold them; `DataError` where they are nested too deeply.

    Bytes become base64 text, dates ISO text, numbers that are not finite null.
    """
    return {printable(str(name)): _json_value(value, 0) for name, value in values.items()}


def _json_value(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise DataError(f"a value is nested deeper than {_MAX_DEPTH} levels")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value if value.isascii() else printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {printable(str(key)): _json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.generic):
        return _json_value(value.item(), depth + 1)
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist(), depth + 1)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    return printable(str(value))
