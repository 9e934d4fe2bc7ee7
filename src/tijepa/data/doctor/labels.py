"""Further columns that look like labels: few distinct values, and how evenly they are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["LabelStatistics"]

_MOST_VALUES = 50
_MOST_COLUMNS = 100
_LONGEST_VALUE = 60


class LabelStatistics:
    """Counts the values of every further column until it turns out to hold too many."""

    def __init__(self) -> None:
        self._columns: dict[str, Counter[str] | None] = {}

    def add(self, extra: Mapping[str, Any]) -> None:
        """Note the further columns of one item."""
        for name, value in extra.items():
            if name not in self._columns:
                if len(self._columns) >= _MOST_COLUMNS:
                    continue
                self._columns[name] = Counter()
            counts = self._columns[name]
            if counts is None:
                continue
            text = _as_label(value)
            if text is not None:
                counts[text] += 1
            if text is None or len(counts) > _MOST_VALUES:
                self._columns[name] = None

    def summary(self) -> dict[str, dict[str, int]]:
        """Counts by value of every column with 2 to 50 values, fewer than there are items."""
        return {
            str(name): dict(counts.most_common())
            for name, counts in self._columns.items()
            if counts is not None and 2 <= len(counts) < counts.total()
        }


def _as_label(value: Any) -> str | None:
    """The value as text, or None if it is nothing that a label could be."""
    if value is None:
        return "(none)"
    if isinstance(value, (bool, int)):
        return str(value) if -(10**18) < value < 10**18 else None
    if isinstance(value, str) and len(value) <= _LONGEST_VALUE:
        return value
    return None
