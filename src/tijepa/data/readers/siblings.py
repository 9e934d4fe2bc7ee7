"""A plain folder: `name.jpg`, beside it `name.txt` (a caption a line) and perhaps `name.json`.

Folders below are read too; those called train, val or test are splits.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.readers.files import (
    PICTURE_SUFFIXES,
    digest_of_files,
    printable,
    read_file,
    walk,
)
from tijepa.data.readers.sides import read_sides
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.splits import split_in_name
from tijepa.errors import DataError

__all__ = ["SiblingsReader"]

_PROBED = 200  # folders looked into for a first pair


@dataclass
class _Stem:
    """Files of one folder that share a name but for its ending."""

    pictures: list[str] = field(default_factory=list)
    text: str | None = None
    json: str | None = None


class SiblingsReader(Reader):
    """Pictures with text files of the same name."""

    name: ClassVar[str] = "siblings"
    layout: ClassVar[str] = "a folder of name.jpg with name.txt beside it"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._root = Path(source)
        self._options = options
        if not self._root.is_dir():
            raise DataError(f"{source} is no folder: give the one that holds the pictures")
        if not any(isinstance(item, _Found) for item in self._stems()):
            endings = ", ".join(sorted(PICTURE_SUFFIXES))
            raise DataError(f"folder {source} holds no picture: looked for {endings}")

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether a picture has a text of its name, in the first files of the first folders."""
        if not os.path.isdir(source):
            return False
        return any(
            stem.pictures and stem.text
            for step in itertools.islice(walk(Path(source)), _PROBED)
            if not isinstance(step, SetAside)
            for stem in _by_stem(step[1]).values()
        )

    def __iter__(self) -> Iterator[Record | SetAside]:
        for found in self._stems():
            yield found if isinstance(found, SetAside) else self._record(found)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return (
            f"{self._root}: pictures, captions from .txt files of the same name (one a line), "
            "further columns from .json files"
        )

    def fingerprint(self) -> str:
        """Of all pictures, texts and JSON files."""
        return digest_of_files(self._root, self._names())

    def _names(self) -> Iterator[str]:
        for found in self._stems():
            if isinstance(found, _Found):
                stem = found.stem
                for name in (*stem.pictures[:1], stem.text, stem.json):
                    if name is not None:
                        yield os.path.join(found.folder, name)

    def _stems(self) -> Iterator[_Found | SetAside]:
        for step in walk(self._root):
            if isinstance(step, SetAside):
                yield step
                continue
            folder, names = step
            for stem in _by_stem(names).values():
                if stem.pictures:
                    yield _Found(folder, stem)
                elif stem.text is not None:
                    text = printable(os.path.join(folder, stem.text))
                    yield SetAside(text, "text without a picture of the same name")
                for other in stem.pictures[1:]:
                    reason = f"{printable(stem.pictures[0])} has the same name and is used"
                    yield SetAside(printable(os.path.join(folder, other)), reason)

    def _record(self, found: _Found) -> Record | SetAside:
        picture = os.path.join(found.folder, found.stem.pictures[0])
        name = printable(picture).replace(os.sep, "/")
        try:
            image = read_file(self._root / picture)
        except DataError as error:
            return SetAside(name, str(error))
        beside: dict[str, bytes | None] = {}
        for what, file in (("text", found.stem.text), ("json", found.stem.json)):
            try:
                path = self._root / found.folder / file if file is not None else None
                beside[what] = None if path is None else read_file(path)
            except DataError as error:
                return SetAside(name, f"{printable(file or '')}: {error}")
        try:
            sides = read_sides(beside["text"], beside["json"], self._options, line_by_line=True)
        except DataError as error:
            return SetAside(name, f"{printable(found.stem.json or '')}: {error}")
        parts = found.folder.lower().split(os.sep)
        splits = (split_in_name(part) for part in parts if part.isalpha())
        return Record(
            id=name,
            reference=name,
            image=image,
            captions=sides.captions,
            split=sides.split or next((split for split in splits if split), None),
            extra=sides.extra,
        )


@dataclass(frozen=True)
class _Found:
    """A stem and the folder in which it stands, relative to the source."""

    folder: str
    stem: _Stem


def _by_stem(names: list[str]) -> dict[str, _Stem]:
    stems: dict[str, _Stem] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        ending = ending.lower()
        if ending in PICTURE_SUFFIXES:
            stems.setdefault(stem, _Stem()).pictures.append(name)
        elif ending == ".txt":
            stems.setdefault(stem, _Stem()).text = name
        elif ending == ".json":
            stems.setdefault(stem, _Stem()).json = name
    return stems
