"""Filters on the columns of a store, in the SQL that Lance takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tijepa.data.store.schema import REST, StoreInfo, storage_problem
from tijepa.errors import ConfigError

if TYPE_CHECKING:
    from tijepa.data.store.source import Store


_OWN = ("id", "split", "width", "height", "format", "reference", "captions", "content_hash")
# a string, a name in backticks, or a bare name that is no function
_TOKENS = re.compile(r"('(?:[^']|'')*')|\"[^\"]*\"|`([^`]*)`|([^\W\d]\w*)(?!\w|\s*\()")


def columns_of(info: StoreInfo) -> list[str]:
    """Names that a filter may use: the store's own columns, then those of the source."""
    extras = [column.name for column in info.extras.columns if column.name not in _OWN]
    return [*_OWN, *extras]


def in_store_names(where: str, info: StoreInfo) -> str:
    """The filter with each column of the source by the name that it has in the store.

    Text in quotes stays as it is. A name that is no plain word stands in backticks.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[2] or match[3]
        column = info.extras.named(name) if name and name not in _OWN else None
        return match[0] if column is None else f"`{column.field}`"

    return _TOKENS.sub(replaced, where)


def rows_where(store: Store, where: str) -> NDArray[np.int64]:
    """Numbers of the rows for which `where` is true, ascending.

    Raises `ConfigError` where it cannot be understood.
    """
    if ";" in _TOKENS.sub("", where):  # of several statements only the first would be read
        raise ConfigError(f'cannot filter by "{where}": it holds a ";"; join conditions with AND')
    translated = in_store_names(where, store.info)
    try:
        table = store.dataset.scanner(columns=["_rowoffset"], filter=translated).to_table()
    except (ValueError, OSError) as error:
        reason = storage_problem(error).removeprefix("Invalid user input: ").split(", /")[0]
        reason = reason.split(" Valid fields are")[0].rstrip(".")
        known = ", ".join(name for name in columns_of(store.info) if name != REST)
        raise ConfigError(
            f'cannot filter by "{where}": {reason}; columns: {known}; text in single quotes, as'
            " in \"split = 'test' AND width > 300\""
        ) from None
    return np.sort(table["_rowoffset"].to_numpy().astype(np.int64))
