"""A data set of the Hugging Face hub by its name: hub:OWNER/NAME or hub:OWNER/NAME:CONFIG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.readers.datasets_rows import DatasetsRows, import_datasets
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError

__all__ = ["HubReader"]

_PREFIXES = ("hub:", "hf://datasets/")
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")


class HubReader(Reader):
    """A data set that `datasets` downloads, or has downloaded, into its cache."""

    name: ClassVar[str] = "hub"
    layout: ClassVar[str] = "hub:OWNER/NAME"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        prefix = next((start for start in _PREFIXES if source.startswith(start)), "")
        parts = _NAME.fullmatch(source.removeprefix(prefix))
        if not parts:
            raise DataError(f"'{source}' names no data set of the hub: write hub:OWNER/NAME")
        datasets = import_datasets()
        self._source = source
        repository, config = parts.groups()
        try:
            loaded = datasets.load_dataset(repository, config)
        except Exception as error:  # noqa: BLE001 (network, hub and builders raise anything)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"cannot load {source} from the hub: {reason}; check the name and the network, or "
                "save it with save_to_disk elsewhere and name that folder"
            ) from None
        self._rows = DatasetsRows(loaded, source, options, root=None)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its prefix."""
        return source.startswith(_PREFIXES)

    def __iter__(self) -> Iterator[Record | SetAside]:
        return self._rows.records()

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._source}: {self._rows.describe()}"

    def fingerprint(self) -> str:
        """Of what the library keeps in its cache."""
        return self._rows.fingerprint()

    def count(self) -> int | None:
        """Number of rows."""
        return self._rows.count()
