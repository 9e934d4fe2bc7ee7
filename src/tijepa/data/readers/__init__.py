"""Readers: every layout that people keep pairs in, found by looking at the source.

The first reader that recognises a source takes it. Where several could, the order below decides:
a folder that `save_to_disk` wrote; MVSA's table of labels; a table called captions, pairs or
metadata (or the only table, if its columns can be recognised); tar shards, before the .parquet
files that img2dataset puts beside them; a split file of Karpathy, before the annotations of COCO it
was made from; parquet; text files beside images. `reader` overrides the order.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tijepa.data.readers.coco import CocoReader
from tijepa.data.readers.hugging_face import DiskDatasetReader, HubReader
from tijepa.data.readers.karpathy import KarpathyReader
from tijepa.data.readers.lance_store import LanceStoreReader
from tijepa.data.readers.mvsa import MvsaReader
from tijepa.data.readers.parquet import ParquetReader
from tijepa.data.readers.rows import JSON_LINES, SEPARATED
from tijepa.data.readers.scenes import ScenesReader
from tijepa.data.readers.siblings import SiblingsReader
from tijepa.data.readers.table import TableReader
from tijepa.data.readers.webdataset import WebDatasetReader
from tijepa.data.records import Reader, ReaderOptions
from tijepa.errors import ConfigError, DataError
from tijepa.registry import unknown_name

__all__ = ["READERS", "open_reader"]

_ORDER: tuple[type[Reader], ...] = (
    ScenesReader,
    HubReader,
    LanceStoreReader,
    DiskDatasetReader,
    MvsaReader,
    TableReader,
    WebDatasetReader,
    KarpathyReader,
    CocoReader,
    ParquetReader,
    SiblingsReader,
)
_NOT_ON_DISK = (ScenesReader, HubReader)
_BY_URI = (ScenesReader, HubReader, LanceStoreReader)
_AS_GUESSED = ReaderOptions()

READERS: dict[str, type[Reader]] = {reader.name: reader for reader in _ORDER}


def open_reader(
    source: str, *, reader: str | None = None, options: ReaderOptions = _AS_GUESSED
) -> Reader:
    """The reader called `reader`, or else the first one that recognises `source`, opened.

    Raises `ConfigError` for an unknown `reader` or an option without effect, and `DataError` if the
    source does not exist, if no reader recognises it, or if it cannot be used.
    """
    chosen = None if reader is None else _named(reader)
    if chosen in _BY_URI or any(kind.recognises(source) for kind in _BY_URI):
        kinds = [kind for kind in _BY_URI if kind.recognises(source)]
        return _opened(chosen or kinds[0], source, options)
    path = str(Path(source).expanduser())
    _refuse_nothing(path)
    if chosen is None:
        chosen = next((kind for kind in _ORDER if kind.recognises(path)), None)
    if chosen is None and _has_table(Path(path)):
        chosen = TableReader  # its error says what is wrong with the table
    if chosen is None:
        layouts = "; ".join(kind.layout for kind in _ORDER if kind not in _NOT_ON_DISK)
        raise DataError(f"nothing recognised in {source}: looked for {layouts}")
    return _opened(chosen, path, options)


def _opened(kind: type[Reader], source: str, options: ReaderOptions) -> Reader:
    for field in dataclasses.fields(options):
        if getattr(options, field.name) is not None and field.name not in kind.follows:
            raise ConfigError(
                f"`{field.name}` has no effect on {source}, read as {kind.name}: drop it"
            )
    return kind(source, options)


def _named(reader: str) -> type[Reader]:
    if reader not in READERS:
        raise ConfigError(unknown_name("reader", reader, READERS))
    return READERS[reader]


def _refuse_nothing(path: str) -> None:
    """Raise `DataError` unless `path` is a file, a folder with something in it, or a pattern."""
    try:
        place = Path(path)
        if place.is_dir():
            if next(place.iterdir(), None) is None:
                raise DataError(f"folder {path} is empty: put images and a captions.jsonl there")
        elif not place.exists() and "{" not in path:
            raise DataError(f"{path} does not exist: check the source")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check its permissions") from None
    except ValueError:
        raise DataError(f"source {path!r} is no path: check it") from None


def _has_table(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (*JSON_LINES, *SEPARATED)
    return path.is_dir() and any(
        entry.suffix.lower() in (*JSON_LINES, *SEPARATED) for entry in path.iterdir()
    )
