"""What layouts share whose captions stand in annotation files in JSON that name image files."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.files import digest_of_files, glimpse, load_json_file
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError

_GLIMPSE = 65536  # bytes looked at, at both ends of a file


class AnnotationReader(Reader):
    """Annotation files, each held in memory while it is read, and the images that they name.

    A file is one of the layout where its ends show all `keys`. Files are looked for in `folders`;
    where names of some begin with `prefix`, only those are taken.
    """

    follows: ClassVar[frozenset[str]] = frozenset()
    keys: ClassVar[tuple[bytes, ...]]
    folders: ClassVar[tuple[str, ...]] = ("",)
    prefix: ClassVar[str] = ""

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        self._files = self._found(Path(source))

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether a JSON file there shows the keys of the layout at its ends."""
        return bool(cls._found(Path(source)))

    def __iter__(self) -> Iterator[Record | Rejected]:
        for file in self._files:
            yield from self._records(file)

    def fingerprint(self) -> str:
        """Of the annotation files and the images that they name."""
        return digest_of_files(self._files[0].parent, self._names())

    @abstractmethod
    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        """What one file tells, in its order."""

    @abstractmethod
    def _images(self, file: Path) -> Iterator[Path]:
        """The images that one file names."""

    def _names(self) -> Iterator[str]:
        for file in self._files:
            yield file.name
            for image in self._images(file):
                try:
                    yield os.path.relpath(image, file.parent)
                except ValueError:
                    continue

    @classmethod
    def _found(cls, source: Path) -> list[Path]:
        try:
            folders = [source / name for name in cls.folders]
            files = sorted(itertools.chain(*(folder.glob("*.json") for folder in folders)))
            files = [source] if source.is_file() else files
        except (OSError, ValueError):
            return []
        named = [file for file in files if file.name.startswith(cls.prefix)]
        return [file for file in named or files if cls._shows_keys(file)]

    @classmethod
    def _shows_keys(cls, file: Path) -> bool:
        if file.suffix.lower() != ".json":
            return False
        ends = glimpse(file, 0, _GLIMPSE) + glimpse(file, -_GLIMPSE, _GLIMPSE)
        return all(key in ends for key in cls.keys)


def lists_in(file: Path, problem: str, *names: str) -> list[list[Any]]:
    """The lists called `names` of the JSON object in `file`.

    Raises `DataError` where it cannot be read, and one that says `problem` where it lacks a list.
    """
    content = load_json_file(file)
    found = [content.get(name) if isinstance(content, dict) else None for name in names]
    lists = [part for part in found if isinstance(part, list)]
    if len(lists) < len(names):
        raise DataError(f"{file} {problem}")
    return lists
