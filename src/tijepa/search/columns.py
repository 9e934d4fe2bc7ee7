"""The columns of a store: conditions on them, in the SQL that Lance takes, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from tijepa.data.store.schema import REST, StoreInfo, storage_problem
from tijepa.data.store.source import Store
from tijepa.errors import ConfigError
from tijepa.registry import unknown_name

FEW = 12  # values of a column that can be chosen from
Kind = Literal["boolean", "integer", "number", "text", "texts", "json"]
_OWN: Mapping[str, Kind] = {
    "id": "text",
    "split": "text",
    "width": "integer",
    "height": "integer",
    "format": "text",
    "reference": "text",
    "captions": "texts",
    "content_hash": "text",
}
_TOLD = ("split", "width", "height", "format", "reference")  # of the store's own, of a hit
_HOLDS = {
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "true or false",
    "text": "text",
    "texts": "a list of texts",
    "json": "values of several kinds, as text",
}
# what Lance calls the types that columns have
_KINDS: Mapping[str, Kind] = {
    "Int": "integer",
    "Float": "number",
    "Boolean": "boolean",
    "Utf8": "text",
    "List": "texts",
}
# a string, a name in double quotes or in backticks, or a bare name that is no function
_TOKENS = re.compile(r"('(?:[^']|'')*')|\"([^\"]*)\"|`([^`]*)`|([^\W\d]\w*)(?!\w|\s*\()")
_LITERAL = re.compile(r"Received literal (\w+)\((.*?)\) and could not convert to .* type '(\w+)")
_UNKNOWN = re.compile(r"No field named \"?([^\".]+?)\"?\.")


@dataclass(frozen=True)
class Column:
    """A column that conditions may name, as it is written there, and what it holds.

    `kind` is boolean, integer, number, text, json (values of several kinds, as text) or texts, and
    `values` are those that occur, where they are few.
    """

    name: str
    kind: Kind
    values: tuple[bool | int | str, ...] | None = None

    @property
    def written(self) -> str:
        """The name in a condition: in backticks where it is no plain word."""
        return self.name if re.fullmatch(r"[^\W\d]\w*", self.name) else f"`{self.name}`"


def columns_of(info: StoreInfo) -> dict[str, Column]:
    """What a condition may name: the store's own columns, then those of the source."""
    own = {name: Column(name, kind) for name, kind in _OWN.items()}
    return own | {
        column.name: Column(column.name, cast(Kind, column.kind))
        for column in info.extras.columns
        if column.name not in own
    }


def check_columns(names: Sequence[str], info: StoreInfo) -> None:
    """`ConfigError` where `values_of` knows no column of one of `names`."""
    known = dict.fromkeys([*_TOLD, *(column.name for column in info.extras.columns)])
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("column", name, known))


def in_store_names(where: str, info: StoreInfo) -> str:
    """The condition with each column of the source by the name that it has in the store.

    Text in quotes stays as it is. A name that is no plain word stands in backticks.
    """

    def replaced(match: re.Match[str]) -> str:
        name = match[2] or match[3] or match[4]
        if not name or name in _OWN:
            return match[0] if match[2] is None or name not in _OWN else f"`{name}`"
        column = info.extras.named(name)
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
        reason = _in_our_words(storage_problem(error), where, store.info)
        raise ConfigError(f'cannot filter by "{where}": {reason}') from None
    return np.sort(table["_rowoffset"].to_numpy().astype(np.int64))


def _in_our_words(problem: str, where: str, info: StoreInfo) -> str:
    """What Lance says of a condition, with the names and kinds of the source, and a remedy."""
    known = columns_of(info)
    used = [known[name] for name in _names(where) if name in known]
    names = [column.written for column in known.values() if column.name != REST]
    if found := _UNKNOWN.search(problem):
        name = found[1]
        if re.search(rf"[=<>]\s*{re.escape(name)}\b", where):
            return f"{name} is no column; text stands in single quotes, as in split = 'test'"
        return unknown_name("column", name, names)
    if found := _LITERAL.search(problem):
        kind = next((kind for word, kind in _KINDS.items() if found[3].startswith(word)), "")
        value = f"'{found[2][1:-1]}'" if found[1] == "Utf8" else found[2]
        for column in used:
            if column.kind == kind or (column.kind, kind) == ("json", "text"):
                return _mismatch(column, value)
    if "does not return a boolean" in problem:
        return "it compares nothing: give a comparison, as in split = 'test' AND width > 300"
    reason = problem.removeprefix("Invalid user input: ").split(", /")[0].rstrip(".")
    reason = re.sub(r".*SELECT 1 FROM t WHERE .*\((.*)\)", r"\1", reason)
    reason = reason.removeprefix("Error during planning: ")
    for word, kind in _KINDS.items():
        reason = re.sub(rf"\b{word}\d*\b", kind, reason)
    held = "".join(f"; {column.written} holds {_HOLDS[column.kind]}" for column in used)
    return (
        f"{reason}{held}; columns: {', '.join(names)}; text in single quotes, as in split = 'test'"
    )


def _mismatch(column: Column, value: str) -> str:
    """Why a column cannot be compared with a value, and what to write instead."""
    name, text = column.written, value.startswith("'")
    said = f"{name} holds {_HOLDS[column.kind]}, and {value} is {'text' if text else 'a number'}"
    if column.kind == "texts":
        return f"{said}: write array_has({name}, {value if text else repr(value)})"
    if column.kind == "boolean":
        return f"{said}: write {name} = true or {name} = false"
    if column.kind in ("text", "json"):
        return (
            f"{said}: compare text, as '{value}', or those that read as numbers by"
            f" TRY_CAST({name} AS DOUBLE)"
        )
    if text:
        return f"{said}: write a number without quotes"
    return f"{said} with a fraction: write a whole number, or CAST({name} AS DOUBLE)"


def _names(where: str) -> Iterator[str]:
    for match in _TOKENS.finditer(where):
        name = match[2] or match[3] or match[4]
        if name:
            yield name


def values_of(store: Store, rows: NDArray[np.int64]) -> list[Mapping[str, Any]]:
    """What columns hold in some rows, by name: the source's, and split, size, format, reference.

    A row leaves out what it has no value of.
    """
    extras = store.info.extras
    fields = list(dict.fromkeys([*_TOLD, *(field.name for field in extras.fields)]))
    table = store.take_each(rows, fields).combine_chunks()
    if not len(table):
        return []
    own = table.select(list(_TOLD)).to_pylist()
    return [
        {**theirs, **{name: value for name, value in ours.items() if value is not None}}
        for theirs, ours in zip(extras.rows(table.to_batches()[0]), own, strict=True)
    ]


def with_values(store: Store) -> list[Column]:
    """The columns that conditions may name, with their values where these are few."""
    found = []
    for column in columns_of(store.info).values():
        extra = None if column.name in _OWN else store.info.extras.named(column.name)
        values = None
        if column.kind in ("boolean", "integer", "text"):
            values = _few_values(store, column.name if extra is None else extra.field)
        found.append(Column(column.name, column.kind, values))
    return found


def _few_values(store: Store, field: str) -> tuple[bool | int | str, ...] | None:
    """The values of a column, sorted; None where there are more than a few, or none."""
    seen: set[bool | int | str] = set()
    for batch in store.dataset.scanner(columns=[field]).to_batches():
        seen.update(pc.unique(batch.column(0)).drop_null().to_pylist())
        if len(seen) > FEW:
            return None
    return tuple(sorted(seen)) or None
