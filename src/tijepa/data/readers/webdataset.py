"""WebDataset: tar shards in which the files of one sample share a name up to its first dot.

The layout is described at https://github.com/webdataset/webdataset and is what img2dataset writes
(its .parquet and _stats.json files beside the shards are ignored). Pictures are .jpg, .jpeg, .png
or .webp; .txt is the caption; .json may hold captions, a split and further columns; .cls, .id and
.url are kept as text. Anything else, pickles above all, is not read and told at the end.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from tijepa.data.pairs import SetAside
from tijepa.data.readers.files import check_size, digest_of_files, printable
from tijepa.data.readers.shards import Member, Shard, find_shards, index_shard
from tijepa.data.readers.sides import read_sides
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.splits import split_in_name
from tijepa.errors import DataError

__all__ = ["WebDatasetReader"]

_PICTURES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("cls", "id", "url")


class WebDatasetReader(Reader):
    """Samples of tar shards."""

    name: ClassVar[str] = "webdataset"
    layout: ClassVar[str] = "a .tar shard, a folder of them, or a pattern such as {000..003}.tar"
    follows: ClassVar[frozenset[str]] = frozenset(("caption_column", "split_column"))

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._source = source
        self._options = options
        self._shards = find_shards(source)
        top = os.path.dirname(source.partition("{")[0] if "{" in source else source)
        self._root = source if os.path.isdir(source) else top or "."
        if not self._shards:
            raise DataError(f"{source} holds no .tar shard: give a .tar file or a folder of them")
        if not any(os.path.isfile(shard) for shard in self._shards):
            raise DataError(f"none of the {len(self._shards):,} shards of {source} exists")

    @classmethod
    def recognises(cls, source: str) -> bool:
        """A .tar file, a pattern of some, or a folder that has one at its top or one below it."""
        if os.path.isdir(source):
            return any(
                next(Path(source).glob(pattern), None) is not None
                for pattern in ("*.tar", "*/*.tar")
            )
        return source.lower().endswith(".tar") and (os.path.isfile(source) or "{" in source)

    def __iter__(self) -> Iterator[Record | SetAside]:
        unread: Counter[str] = Counter()
        for path in self._shards:
            shard = index_shard(path)
            label = self._label(path)
            if shard.samples:
                yield from self._samples(path, label, shard, unread)
            for name, offset in shard.repeated:
                yield SetAside(
                    printable(f"{label}/{name}"), f"stands again at byte {offset:,} of the shard"
                )
            if shard.damage:
                yield SetAside(f"{label}.tar", shard.damage)
        for ending, count in sorted(unread.items()):
            yield SetAside(f"*.{ending}", f"{count:,} members of this kind are not read")

    def describe(self) -> str:
        """See `Reader.describe`."""
        named = self._options.caption_column
        captions = "txt, or 'caption' of json" if named is None else f"'{named}' of json"
        return (
            f"{self._source}: {len(self._shards):,} tar shards; image from "
            f"{', '.join(_PICTURES)}; captions from {captions}"
        )

    def fingerprint(self) -> str:
        """Of the shards."""
        names = (os.path.relpath(path, self._root) for path in self._shards)
        return digest_of_files(Path(self._root), names)

    def _label(self, path: str) -> str:
        """The shard's path below the source, without its ending."""
        return printable(os.path.splitext(os.path.relpath(path, self._root))[0])

    def _samples(
        self, path: str, label: str, shard: Shard, unread: Counter[str]
    ) -> Iterator[Record | SetAside]:
        with open(path, "rb") as file:
            for key, members in shard.samples.items():
                name = printable(f"{label}/{key}")
                try:
                    yield self._record(file, name, f"{label}.tar:{printable(key)}", members, unread)
                except DataError as error:
                    yield SetAside(name, str(error))

    def _record(
        self,
        file: BinaryIO,
        name: str,
        reference: str,
        members: dict[str, Member],
        unread: Counter[str],
    ) -> Record:
        by_kind: dict[str, tuple[str, Member]] = {}
        for ending, member in members.items():
            kind = ending.rpartition(".")[2]
            if kind in _PICTURES:
                kind = "image"
            if kind in by_kind or kind not in ("image", "txt", "json", *_TEXTS):
                unread[printable(ending)] += 1
            else:
                by_kind[kind] = (ending, member)
        content = {kind: _read(file, *found) for kind, found in by_kind.items()}
        try:
            sides = read_sides(
                content.get("txt"), content.get("json"), self._options, line_by_line=False
            )
        except DataError as error:
            raise DataError(f"json: {error}") from None
        image = content.get("image")
        if image is None and not sides.captions:
            raise DataError("neither an image nor a caption")
        kept: dict[str, Any] = {
            kind: printable(content[kind].decode("utf-8", "backslashreplace").strip())
            for kind in _TEXTS
            if kind in content
        }
        return Record(
            id=name,
            reference=reference,
            image=image,
            captions=sides.captions,
            split=sides.split or _split_of_path(name),
            extra={**kept, **sides.extra},
        )


def _split_of_path(name: str) -> str | None:
    """From the folder or the name of the shard, such as train/000.tar or val-000.tar."""
    found = (split_in_name(part) for part in name.split("/")[:-1])
    return next((split for split in found if split), None)


def _read(file: BinaryIO, ending: str, member: Member) -> bytes:
    check_size(member.size)
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) < member.size:
        raise DataError(
            f"shard is truncated: .{ending} at byte {member.offset:,} has {len(data):,} of "
            f"{member.size:,} bytes"
        )
    return data
