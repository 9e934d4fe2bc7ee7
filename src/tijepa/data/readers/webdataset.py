"""WebDataset: tar shards in which the files of one sample share a name up to its first dot.

Where names hold dots of their own (`a.1.jpg` and `a.2.jpg`), samples are told apart by all before
the last one. `key.jpg` is the image before `key.depth.png`. Links inside a shard are followed.

The layout is described at https://github.com/webdataset/webdataset and is what img2dataset writes
(its .parquet and _stats.json files beside the shards are ignored). Images are those of
`IMAGE_SUFFIXES`; .txt is the caption; .json may hold captions, a split and further columns; .cls,
.id and .url are kept as text. Anything else, pickles above all, is not read and told at the end;
a sample without image that holds such a member is rejected, for its image may be in there.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.files import (
    IMAGE_SUFFIXES,
    check_size,
    digest_of_files,
    is_clutter,
    printable,
)
from tijepa.data.readers.siblings import read_sidecar
from tijepa.data.records import Reader, ReaderOptions, Record, split_in_names
from tijepa.errors import DataError
from tijepa.io.formatting import first_line
from tijepa.registry import register

_IMAGES = frozenset(ending[1:] for ending in IMAGE_SUFFIXES)
_TEXTS = ("cls", "id", "url")
_MAX_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_AFTER_END = 65536


@register("reader", "webdataset")
class WebDatasetReader(Reader):
    """Samples of tar shards."""

    name: ClassVar[str] = "webdataset"
    priority: ClassVar[int] = 70
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

    def __iter__(self) -> Iterator[Record | Rejected]:
        unread: Counter[str] = Counter()
        whole, read = 0, 0  # shards read to their end, and the samples in them
        missing: list[Rejected] = []
        for path in self._shards:
            shard = index_shard(path)
            label = self._label(path)
            if shard.samples:
                yield from self._samples(path, label, shard, unread)
            for name, reason in shard.unusable:
                yield Rejected(printable(f"{label}/{name}"), reason)
            if not shard.damage:
                whole, read = whole + 1, read + len(shard.samples)
            elif shard.lost is None:
                missing.append(Rejected(f"{label}.tar", shard.damage))
            else:
                yield Rejected(f"{label}.tar", shard.damage, shard.lost)
        mean = max(1, round(read / max(1, whole)))
        for one in missing:
            reason = f"{one.reason}: by the others it has about {mean:,} samples"
            yield replace(one, reason=reason if whole else one.reason, samples=mean)
        for ending, count in sorted(unread.items()):
            yield Rejected(f"*.{ending}", f"{count:,} members of this kind are not read", samples=0)

    def describe(self) -> str:
        """See `Reader.describe`."""
        named = self._options.caption_columns
        captions = "txt, or 'caption' of json"
        if named is not None:
            captions = f"'{', '.join(named)}' of json"
        return (
            f"{self._source}: {len(self._shards):,} tar shards; image from jpg, png and the like; "
            f"captions from {captions}"
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
    ) -> Iterator[Record | Rejected]:
        with open(path, "rb") as file:
            for key, members in shard.samples.items():
                name = printable(f"{label}/{key}")
                try:
                    yield self._record(file, name, f"{label}.tar:{printable(key)}", members, unread)
                except DataError as error:
                    yield Rejected(name, str(error))

    def _record(
        self,
        file: BinaryIO,
        name: str,
        reference: str,
        members: dict[str, Member],
        unread: Counter[str],
    ) -> Record:
        by_kind: dict[str, tuple[str, Member]] = {}
        other = ""
        for ending, member in sorted(members.items(), key=lambda one: one[0].count(".")):
            kind = ending.rpartition(".")[2]
            kind = "image" if kind in _IMAGES else kind
            if kind in by_kind or kind not in ("image", "txt", "json", *_TEXTS):
                unread[printable(ending)] += 1
                other = other or printable(ending)
            else:
                by_kind[kind] = (ending, member)
        if "image" not in by_kind and other:
            raise DataError(f"has no image, and a member .{other} that is not read")
        content = {kind: _read(file, *found) for kind, found in by_kind.items()}
        try:
            sidecar = read_sidecar(
                content.get("txt"), content.get("json"), self._options, line_by_line=False
            )
        except DataError as error:
            raise DataError(f"json: {error}") from None
        image = content.get("image")
        if image is None and not sidecar.captions:
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
            captions=sidecar.captions,
            split=sidecar.split or split_in_names(name.split("/")[:-1]),
            extra={**kept, **sidecar.extra},
        )


def _read(file: BinaryIO, ending: str, member: Member) -> bytes:
    if member.problem:
        raise DataError(f".{ending} {member.problem}")
    check_size(member.size)
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) < member.size:
        raise DataError(
            f"shard is truncated: .{ending} at byte {member.offset:,} has {len(data):,} of "
            f"{member.size:,} bytes"
        )
    return data


@dataclass(frozen=True)
class Member:
    """A file in a shard: where its bytes are, or why they cannot be had."""

    offset: int
    size: int
    problem: str = ""


@dataclass
class Shard:
    """What one shard holds, by key and then by ending, both in the order of the file.

    `damage` says why the rest of the file could not be read, and `lost` about how many samples are
    in there: as many as in as many bytes before, None where nothing at all could be read.
    """

    samples: dict[str, dict[str, Member]] = field(default_factory=dict)
    unusable: list[tuple[str, str]] = field(default_factory=list)  # name, reason
    damage: str | None = None
    lost: int | None = None


def find_shards(source: str) -> list[str]:
    """Paths of the shards: a .tar file, those below a folder, or those of a brace pattern."""
    if _BRACES.search(source) and not os.path.exists(source):
        return expand_braces(source)
    if os.path.isfile(source):
        return [source] if source.lower().endswith(".tar") else []
    return sorted(
        str(path)
        for path in Path(source).rglob("*.tar")
        if path.is_file() and not is_clutter(path.relative_to(source).as_posix())
    )


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}` is a00, a01, a02 and `a{x,y}` is ax, ay; several braces are combined."""
    parts = _BRACES.split(pattern)  # text and insides of braces take turns
    choices: list[list[str]] = []
    total = 1
    for number, part in enumerate(parts):
        choices.append(_choices(part) if number % 2 else [part])
        total *= len(choices[-1])
        if total > _MAX_SHARDS:
            raise DataError(f"{pattern} means more than {_MAX_SHARDS:,} shards: shorten its range")
    return ["".join(words) for words in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    bounds = _RANGE.fullmatch(inside)
    if not bounds:
        return inside.split(",")
    first, last = bounds.groups()
    if int(last) - int(first) >= _MAX_SHARDS:
        raise DataError(f"{{{inside}}} means more than {_MAX_SHARDS:,} shards: shorten its range")
    if int(last) < int(first):
        raise DataError(f"{{{inside}}} counts down: write the smaller number first")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def index_shard(path: str) -> Shard:
    """Read the headers of `path`, one at a time; nothing is unpacked.

    What is damaged is told in `Shard.damage`, never raised.
    """
    shard = Shard()
    size = offset = 0
    files: dict[str, Member] = {}
    links: list[tuple[str, str]] = []  # name, what it links to
    try:
        size = os.path.getsize(path)
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            for offset, name, member, target in _members(archive):
                if is_clutter(name):
                    continue
                if target is not None:
                    links.append((name, target))
                    member = Member(-1, 0, f"links to {printable(target)}, which is not there")
                if name in files:
                    reason = f"stands again at byte {offset:,} of the shard"
                    shard.unusable.append((name, reason))
                else:
                    files[name] = member
            offset = archive.offset
        shard.damage = _damage_at_end(path, offset, size)
    except FileNotFoundError:
        shard.damage = "file is missing"
    except OSError as error:
        shard.damage = f"file cannot be read: {error.strerror}"
    except Exception as error:  # noqa: BLE001 (damaged headers make tarfile raise anything)
        reason = first_line(error)
        shard.damage = f"damaged after byte {offset:,} of {size:,}: {reason}"
    for name, target in links:
        files[name] = _followed(target, dict(links), files) or files[name]
    _sort_by_sample(shard, files)
    if shard.damage and offset:
        shard.lost = max(1, round(len(shard.samples) * (size - offset) / offset))
    return shard


def _followed(target: str, links: dict[str, str], files: dict[str, Member]) -> Member | None:
    """The member that a link leads to, over at most 8 links."""
    for _ in range(8):
        if target not in links:
            return files.get(target)
        target = links[target]
    return None


def _members(archive: tarfile.TarFile) -> Iterator[tuple[int, str, Member, str | None]]:
    """Offset of the header, name, place and what it links to, of each member but folders."""
    last = -1
    headers: Any = archive
    while (member := archive.next()) is not None:
        headers.members.clear()  # else every header of the shard stays in memory
        if member.size < 0 or member.offset_data <= last:
            raise DataError("a header with a negative size")
        last = member.offset_data
        name, place = posixpath.normpath(member.name), Member(member.offset_data, member.size)
        if member.islnk():
            yield member.offset, name, place, posixpath.normpath(member.linkname)
        elif member.issym():
            target = posixpath.join(posixpath.dirname(name), member.linkname)
            yield member.offset, name, place, posixpath.normpath(target)
        elif member.isreg() and not member.issparse():
            yield member.offset, name, place, None
        elif not member.isdir():
            yield member.offset, name, Member(-1, 0, "is no plain file"), None


def _sort_by_sample(shard: Shard, files: dict[str, Member]) -> None:
    """The key is the path up to the first dot of the file name, the ending the rest.

    A longer name is a sample of its own where both an image and a text have it, or where nothing
    has the short one, and several samples would share that.
    """
    sharing: dict[str, list[str]] = {}
    for name in files:
        folder, _, base = name.rpartition("/")
        stem, dot, _ = base.partition(".")
        if dot:
            sharing.setdefault(f"{folder}/{stem}" if folder else stem, []).append(name)
        else:
            shard.unusable.append((name, "has no ending that says what it is"))
    for key, names in sharing.items():
        endings: dict[str, set[str]] = {}
        for name in names:
            stem, _, ending = name.rpartition(".")
            endings.setdefault(stem, set()).add(ending.lower())
        apart = {
            stem
            for stem, found in endings.items()
            if len(endings) > 1
            and (key not in endings or (found & _IMAGES and found & {"txt", "json"}))
        }
        for name in names:
            stem = name.rpartition(".")[0]
            own = stem if stem in apart else key
            ending = name[len(own) + 1 :].lower()
            sample = shard.samples.setdefault(own, {})
            if ending in sample:
                shard.unusable.append((name, "another member differs only in its case"))
            else:
                sample[ending] = files[name]


def _damage_at_end(path: str, offset: int, size: int) -> str | None:
    """A whole shard ends with blocks of zeros, and nothing but zeros follows."""
    with open(path, "rb") as file:
        file.seek(offset)
        rest = file.read(_AFTER_END)
    if not rest:
        return f"truncated at byte {size:,}: the mark of its end is missing"
    if rest[:512].strip(b"\0"):
        return f"damaged at byte {offset:,} of {size:,}: what follows is no header"
    if rest.strip(b"\0"):
        return f"ends at byte {offset:,} of {size:,}, but more follows: was it joined from several?"
    return None
