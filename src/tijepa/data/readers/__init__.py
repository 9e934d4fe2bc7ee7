"""Readers: every layout that people keep pairs in, found by looking at the source.

Of the readers that recognise a source the one of lowest `priority` takes it: plug-ins first, then a
folder that `save_to_disk` wrote; MVSA's table of labels; a table called captions, pairs or
metadata (or the only table, if its columns can be recognised); tar shards, before the .parquet
files that img2dataset puts beside them; a split file of Karpathy, before the annotations of COCO it
was made from; parquet; text files beside images. `reader` overrides the order.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tijepa.data.readers.rows import JSON_LINES, SEPARATED
from tijepa.data.records import Reader, ReaderOptions
from tijepa.errors import ConfigError, DataError
from tijepa.registry import entries, part

_AS_GUESSED = ReaderOptions()


def readers() -> dict[str, type[Reader]]:
    """Every registered reader by its name, in the order in which they are asked."""
    found = {name: part("reader", name) for name in entries("reader", installed=True)}
    return dict(sorted(found.items(), key=lambda one: (one[1].priority, one[0])))


def open_reader(
    source: str, *, reader: str | None = None, options: ReaderOptions = _AS_GUESSED
) -> Reader:
    """The reader called `reader`, or else the first one that recognises `source`, opened.

    Raises `ConfigError` for an unknown `reader` or an option without effect, and `DataError` if the
    source does not exist, if no reader recognises it, or if it cannot be used.
    """
    chosen: type[Reader] | None = None if reader is None else part("reader", reader)
    kinds = list(readers().values())
    addressed = [kind for kind in kinds if kind.addresses and kind.recognises(source)]
    if addressed or (chosen is not None and chosen.addresses):
        return _opened(chosen or addressed[0], source, options)
    path = str(Path(source).expanduser())
    _refuse_nothing(path)
    if chosen is None:
        chosen = next((kind for kind in kinds if kind.recognises(path)), None)
    if chosen is None and _has_table(Path(path)):
        chosen = part("reader", "table")  # its error says what is wrong with the table
    if chosen is None:
        layouts = "; ".join(kind.layout for kind in kinds)
        raise DataError(f"nothing recognised in {source}: looked for {layouts}")
    return _opened(chosen, path, options)


def _opened(kind: type[Reader], source: str, options: ReaderOptions) -> Reader:
    for field in dataclasses.fields(options):
        if getattr(options, field.name) is not None and field.name not in kind.follows:
            raise ConfigError(
                f"`{field.name}` has no effect on {source}, read as {kind.name}: drop it"
            )
    return kind(source, options)


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
