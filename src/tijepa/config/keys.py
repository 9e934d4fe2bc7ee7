"""Dotted keys such as `optim.lr` into nested mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["covers", "leaves", "put", "remove"]


def covers(section: str, key: str) -> bool:
    """Whether `key` is the setting `section` or lies in the section of that name."""
    return key == section or key.startswith(f"{section}.")


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; a value that stands where a mapping belongs is left alone."""
    name, _, rest = key.partition(".")
    if not rest:
        values[name] = value
    elif isinstance(values.setdefault(name, {}), dict):
        put(values[name], rest, value)


def remove(values: dict[str, Any], key: str) -> None:
    """Delete the value of a dotted key, and the mappings that this leaves empty."""
    name, _, rest = key.partition(".")
    if rest:
        remove(values[name], rest)
    if not rest or not values[name]:
        del values[name]
