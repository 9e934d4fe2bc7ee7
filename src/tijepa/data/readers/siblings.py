"""A plain folder: `name.jpg`, beside it `name.txt` (a caption a line) and perhaps `name.json`.

Folders below are read too; those called train, val or test are splits.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.columns import guess_columns, take, take_captions
from tijepa.data.readers.files import (
    IMAGE_SUFFIXES,
    digest_of_files,
    extra_of,
    is_clutter,
    printable,
    read_file,
    read_json,
    split_of_value,
    walk,
)
from tijepa.data.records import Reader, ReaderOptions, Record, split_in_names
from tijepa.errors import DataError
from tijepa.registry import register

_PROBED = 200  # folders looked into for a first pair
_BESIDE_TEXT = ("captions", "caption")  # a "title" beside a caption is something else


@dataclass
class _Stem:
    """Files of one folder, relative to the source, that share a name but for its ending."""

    folder: str
    images: list[str] = field(default_factory=list)
    text: str | None = None
    json: str | None = None


@register("reader", "siblings")
class SiblingsReader(Reader):
    """Images with text files of the same name."""

    name: ClassVar[str] = "siblings"
    priority: ClassVar[int] = 110
    layout: ClassVar[str] = "a folder of name.jpg with name.txt beside it"
    follows: ClassVar[frozenset[str]] = frozenset(("caption_column", "split_column"))

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._root = Path(source)
        self._options = options
        if not self._root.is_dir():
            raise DataError(f"{source} is no folder: give the one that holds the images")
        if not any(isinstance(item, _Stem) for item in self._stems()):
            endings = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"folder {source} holds no image: looked for {endings}")

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether an image has a text of its name, in the first files of the first folders."""
        if not os.path.isdir(source):
            return False
        return any(
            stem.images and stem.text
            for step in itertools.islice(walk(Path(source)), _PROBED)
            if not isinstance(step, Rejected)
            for stem in _by_stem(*step)
        )

    def __iter__(self) -> Iterator[Record | Rejected]:
        for stem in self._stems():
            yield stem if isinstance(stem, Rejected) else self._record(stem)

    def describe(self) -> str:
        """See `Reader.describe`."""
        named = self._options.caption_columns
        captions = ".txt files of the same name (one a line)"
        if named is not None:
            captions = f"'{', '.join(named)}'"
        return f"{self._root}: images, captions from {captions}, further columns from .json files"

    def fingerprint(self) -> str:
        """Of all images, texts and JSON files."""
        return digest_of_files(self._root, self._names())

    def _names(self) -> Iterator[str]:
        for stem in self._stems():
            if isinstance(stem, _Stem):
                for name in filter(None, (stem.images[0], stem.text, stem.json)):
                    yield os.path.join(stem.folder, name)

    def _stems(self) -> Iterator[_Stem | Rejected]:
        for step in walk(self._root):
            if isinstance(step, Rejected):
                yield step
                continue
            for stem in _by_stem(*step):
                if stem.images:
                    yield stem
                else:
                    lone = printable(os.path.join(stem.folder, stem.text or stem.json or ""))
                    kind = "JSON" if stem.text is None else "text"
                    yield Rejected(lone, f"{kind} without an image of the same name")
                for other in stem.images[1:]:
                    reason = f"{printable(stem.images[0])} has the same name and is used"
                    yield Rejected(printable(os.path.join(stem.folder, other)), reason)

    def _record(self, stem: _Stem) -> Record | Rejected:
        folder = self._root / stem.folder
        name = printable(os.path.join(stem.folder, stem.images[0])).replace(os.sep, "/")
        read: list[bytes | None] = []
        try:
            for file in (stem.images[0], stem.text, stem.json):
                read.append(None if file is None else read_file(folder / file))
        except DataError as error:
            where = f"{printable(file or '')}: " if read else ""
            return Rejected(name, f"{where}{error}")
        image, text, json = read
        try:
            sidecar = read_sidecar(text, json, self._options, line_by_line=True)
        except DataError as error:
            return Rejected(name, f"{printable(stem.json or '')}: {error}")
        parts = stem.folder.lower().split(os.sep)
        return Record(
            id=name,
            reference=name,
            image=image,
            captions=sidecar.captions,
            split=sidecar.split or split_in_names(part for part in parts if part.isalpha()),
            extra=sidecar.extra,
        )


def _by_stem(folder: str, names: list[str]) -> Iterable[_Stem]:
    stems: dict[str, _Stem] = {}
    for name in names:
        base, ending = os.path.splitext(name)
        ending = ending.lower()
        if is_clutter(name) or name.endswith("_stats.json"):  # img2dataset's, of a whole shard
            continue
        if ending not in IMAGE_SUFFIXES and ending not in (".txt", ".json"):
            continue
        stem = stems.setdefault(base, _Stem(folder))
        if ending == ".txt":
            stem.text = name
        elif ending == ".json":
            stem.json = name
        else:
            stem.images.append(name)
    return stems.values()


@dataclass(frozen=True)
class Sidecar:
    """What text and JSON beside an image, under its name, say of it."""

    captions: tuple[Any, ...]
    split: str | None
    extra: dict[str, Any]


def read_sidecar(
    text: bytes | None, json: bytes | None, options: ReaderOptions, *, line_by_line: bool
) -> Sidecar:
    """Captions of `text` (each line, or all of it as one) and then those of `json` it lacks.

    If `options` name a key of `json`, captions come from there alone. A blank text is none. Invalid
    UTF-8 becomes lone surrogates, for the check to find. Raises `DataError` if `json` is invalid or
    lacks that key.
    """
    named = options.caption_columns
    texts = _texts(text, line_by_line) if named is None else ()
    values = {} if json is None else read_json(json)
    if not isinstance(values, dict):
        values = {"captions": values} if _is_text(values) else {"json": values}
    columns = guess_columns(tuple(values), options)
    for name in named or ():
        if name not in values:
            raise DataError(f"there is no '{name}' for the caption")
    if texts:
        beside = tuple(name for name in columns.caption if name.lower() in _BESIDE_TEXT)
        columns = replace(columns, caption=beside, several=False)
    caption_columns, captions = take_captions(values, columns)
    split_column, split = take(values, columns.split)
    stripped = {caption.strip() for caption in captions if isinstance(caption, str)}
    further = tuple(caption for caption in texts if caption.strip() not in stripped)
    used = {*caption_columns, split_column}
    return Sidecar(
        captions=further + captions,
        split=None if split is None else split_of_value(split),
        extra=extra_of({n: v for n, v in values.items() if n not in used}),
    )


def _texts(text: bytes | None, line_by_line: bool) -> tuple[str, ...]:
    if text is None:
        return ()
    decoded = text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = decoded.replace("\r\n", "\n").split("\n") if line_by_line else [decoded.strip("\r\n")]
    return tuple(line for line in lines if line.strip())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )
