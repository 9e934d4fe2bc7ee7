"""A store in which something is changed, as a source for a new store."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod

from tijepa.data.readers.lance_store import LanceStoreReader
from tijepa.data.records import Reader, ReaderOptions

__all__ = ["ChangedStore"]


class ChangedStore(Reader):
    """The items of a store in order, some of them changed; made by a verb alone."""

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._store = LanceStoreReader(source, options)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Never: a source does not say what is to be changed."""
        del source
        return False

    @abstractmethod
    def changes(self) -> list[tuple[int, list[int]]]:
        """What is changed, by row, in one order."""

    def fingerprint(self) -> str:
        """Of the store and of what is changed."""
        words = f"{self._store.fingerprint()} {json.dumps(self.changes())}"
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def count(self) -> int | None:
        """Rows of the store that is read, some of which may go."""
        return self._store.count()
