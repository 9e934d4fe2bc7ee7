"""Tar shards: which files a source means, and what lies where in one of them.

Only headers are read here, never more than one at a time is kept, and nothing is unpacked.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tijepa.errors import DataError

__all__ = ["Member", "Shard", "expand_braces", "find_shards", "index_shard"]

_MAX_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_AFTER_END = 65536


@dataclass(frozen=True)
class Member:
    """A file in a shard: where its bytes are."""

    offset: int
    size: int


@dataclass
class Shard:
    """What one shard holds, by key and then by ending, both in the order of the file."""

    samples: dict[str, dict[str, Member]] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)  # name, offset
    damage: str | None = None  # why the rest of the file could not be read


def find_shards(source: str) -> list[str]:
    """Paths of the shards: a .tar file, those below a folder, or those of a brace pattern."""
    if _BRACES.search(source) and not os.path.exists(source):
        return expand_braces(source)
    if os.path.isfile(source):
        return [source] if source.lower().endswith(".tar") else []
    return sorted(str(path) for path in Path(source).rglob("*.tar") if path.is_file())


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
    """Read the headers of `path`. What is damaged is told in `Shard.damage`, never raised."""
    shard = Shard()
    size = offset = 0
    try:
        size = os.path.getsize(path)
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            for offset, name, member in _members(archive):
                _add(shard, offset, name, member)
            offset = archive.offset
        shard.damage = _damage_at_end(path, offset, size)
    except FileNotFoundError:
        shard.damage = "file is missing"
    except OSError as error:
        shard.damage = f"file cannot be read: {error.strerror}"
    except Exception as error:  # noqa: BLE001 (damaged headers make tarfile raise anything)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shard.damage = f"damaged after byte {offset:,} of {size:,}: {reason}"
    return shard


def _members(archive: tarfile.TarFile) -> Iterator[tuple[int, str, Member]]:
    """Offset of the header, name and place of each regular file."""
    last = -1
    headers: Any = archive
    while (member := archive.next()) is not None:
        headers.members.clear()  # else every header of the shard stays in memory
        if member.size < 0 or member.offset_data <= last:
            raise DataError("a header with a negative size")
        last = member.offset_data
        if member.isreg() and not member.issparse():
            yield member.offset, member.name, Member(member.offset_data, member.size)


def _add(shard: Shard, offset: int, name: str, member: Member) -> None:
    """The key is the path up to the first dot of the file name, the ending the rest."""
    folder, _, base = posixpath.normpath(name).rpartition("/")
    stem, dot, ending = base.partition(".")
    if not stem or not dot:  # hidden files such as ._1.jpg, and names without an ending
        return
    sample = shard.samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
    if ending.lower() in sample:
        shard.repeated.append((name, offset))
    else:
        sample[ending.lower()] = member


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
