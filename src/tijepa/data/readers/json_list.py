"""A .json file that is one list: `[{"image": "a.jpg", "caption": "…"}, …]`.

`caption` or `captions` holds one text or a list of them; `split` and `id` may be given, and
everything else is kept. Paths are relative to the file. The file is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.annotations import AnnotationReader
from tijepa.data.readers.files import (
    captions_of,
    extra_of,
    glimpse,
    inside,
    item_name,
    load_json_file,
    read_file,
    split_of_value,
)
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError
from tijepa.registry import register

_USED = ("id", "image", "caption", "captions", "split")


@register("reader", "json_list")
class JsonListReader(AnnotationReader):
    """One JSON list of objects, each with an image's path, its captions, or both."""

    name: ClassVar[str] = "json_list"
    layout: ClassVar[str] = "a .json list of objects with image and captions, or its folder"
    keys: ClassVar[tuple[bytes, ...]] = (b'"image"', b'"caption')

    def __init__(self, source: str, options: ReaderOptions) -> None:
        super().__init__(source, options)
        if len(self._files) != 1:
            raise DataError(
                f"{source} holds {len(self._files)} JSON lists of objects with 'image' and"
                " 'caption' or 'captions': name one of them"
            )

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether there is one JSON list whose ends name an image and a caption."""
        return len(cls._found(Path(source))) == 1

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._files[0]}: image, captions and split of each object"

    def count(self) -> int:
        """The length of the list."""
        return len(_entries(self._files[0]))

    @classmethod
    def _shows_keys(cls, file: Path) -> bool:
        start = glimpse(file, 0, 64).lstrip(b"\xef\xbb\xbf \t\r\n")
        return start.startswith(b"[") and super()._shows_keys(file)

    def _images(self, file: Path) -> Iterator[Path]:
        named = [one.get("image") for one in _entries(file) if isinstance(one, dict)]
        return (file.parent / name for name in named if isinstance(name, str))

    def _records(self, file: Path) -> Iterator[Record | Rejected]:
        entries = _entries(file)
        splits = any(isinstance(one, dict) and "split" in one for one in entries)
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            where = f"{file.name}: [{number}]"
            try:
                record = _record(entry, where, file.parent, splits)
                if record.id in seen:
                    raise DataError(f"id {record.id!r:.80} stands twice")
            except DataError as error:
                yield Rejected(where, str(error))
                continue
            seen.add(record.id)
            yield record


def _entries(file: Path) -> list[Any]:
    entries = load_json_file(file)
    if not isinstance(entries, list):
        raise DataError(f"{file} is no JSON list")
    return entries


def _record(entry: Any, where: str, root: Path, splits: bool) -> Record:
    if not isinstance(entry, dict):
        raise DataError("no object")
    name = entry.get("image")
    return Record(
        id=item_name(entry.get("id"), name if isinstance(name, str) else where),
        reference=where,
        image=None if name is None else read_file(root / inside(root, name)),
        captions=captions_of(entry.get("captions", entry.get("caption"))),
        split=split_of_value(entry.get("split")) if splits else None,
        extra=extra_of({key: one for key, one in entry.items() if key not in _USED}),
    )
