"""A .json file that is one list: `[{"image": "a.jpg", "caption": "…"}, …]`.

`caption` or `captions` holds one text or a list of them; `split` and `id` may be given, and
everything else is kept. Paths are relative to the file. The file is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.files import (
    captions_of,
    digest_of_files,
    extra_of,
    glimpse,
    inside,
    item_name,
    load_json_file,
    read_file,
    split_of_value,
)
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.errors import DataError
from tijepa.registry import register

_USED = ("id", "image", "caption", "captions", "split")


@register("reader", "json_list")
class JsonListReader(Reader):
    """One JSON list of objects, each with an image's path, its captions, or both."""

    name: ClassVar[str] = "json_list"
    layout: ClassVar[str] = "a .json list of objects with image and captions, or its folder"
    follows: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        files = _lists(Path(source))
        if len(files) != 1:
            raise DataError(
                f"{source} holds {len(files)} JSON lists of objects with 'image' and 'caption' or"
                " 'captions': name one of them"
            )
        self._file = files[0]

    @classmethod
    def recognises(cls, source: str) -> bool:
        """Whether there is one JSON list whose beginning names an image and a caption."""
        return len(_lists(Path(source))) == 1

    def __iter__(self) -> Iterator[Record | Rejected]:
        entries = self._entries()
        splits = any(isinstance(one, dict) and "split" in one for one in entries)
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            where = f"{self._file.name}: [{number}]"
            try:
                record = self._record(entry, where, splits)
                if record.id in seen:
                    raise DataError(f"id {record.id!r:.80} stands twice")
            except DataError as error:
                yield Rejected(where, str(error))
                continue
            seen.add(record.id)
            yield record

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self._file}: image, captions and split of each object"

    def fingerprint(self) -> str:
        """Of the list and the images that it names."""
        named = [one.get("image") for one in self._entries() if isinstance(one, dict)]
        names = [name for name in named if isinstance(name, str)]
        return digest_of_files(self._file.parent, [self._file.name, *names])

    def count(self) -> int:
        """The length of the list."""
        return len(self._entries())

    def _entries(self) -> list[Any]:
        entries = load_json_file(self._file)
        if not isinstance(entries, list):
            raise DataError(f"{self._file} is no JSON list")
        return entries

    def _record(self, entry: Any, where: str, splits: bool) -> Record:
        if not isinstance(entry, dict):
            raise DataError("no object")
        name, root = entry.get("image"), self._file.parent
        return Record(
            id=item_name(entry.get("id"), name if isinstance(name, str) else where),
            reference=where,
            image=None if name is None else read_file(root / inside(root, name)),
            captions=captions_of(entry.get("captions", entry.get("caption"))),
            split=split_of_value(entry.get("split")) if splits else None,
            extra=extra_of({key: one for key, one in entry.items() if key not in _USED}),
        )


def _lists(source: Path) -> list[Path]:
    try:
        files = [source] if source.is_file() else sorted(source.glob("*.json"))
    except (OSError, ValueError):
        return []
    return [file for file in files if file.suffix.lower() == ".json" and _is_list(file)]


def _is_list(file: Path) -> bool:
    start = glimpse(file, 0, 65536).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"[") and b'"image"' in start and b'"caption' in start
