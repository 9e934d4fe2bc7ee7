"""The ids of all items, compressed, in order of their rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

__all__ = ["IdBook"]

_BLOCK = 16_384  # ids compressed together
_SEPARATOR = "\x1f"


class IdBook:
    """Ids by row number. Held: their deflated text, about a third of its length."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[str] = []

    def __len__(self) -> int:
        return len(self._blocks) * _BLOCK + len(self._open)

    def append(self, item: str) -> None:
        """Note the id of the next row; a separator inside it is shown as a blank."""
        self._open.append(item.replace(_SEPARATOR, " "))
        if len(self._open) == _BLOCK:
            text = _SEPARATOR.join(self._open).encode("utf-8", "surrogatepass")
            self._blocks.append(zlib.compress(text, 1))
            self._open = []

    def look_up(self, rows: Iterable[int]) -> dict[int, str]:
        """The ids of `rows`; every block is opened at most once."""
        found: dict[int, str] = {}
        number, block = -1, list[str]()
        for row in sorted({int(row) for row in rows}):
            if row // _BLOCK != number:
                number = row // _BLOCK
                block = self._block(number)
            found[row] = block[row % _BLOCK]
        return found

    def _block(self, number: int) -> list[str]:
        if number == len(self._blocks):
            return self._open
        text = zlib.decompress(self._blocks[number]).decode("utf-8", "surrogatepass")
        return text.split(_SEPARATOR)
