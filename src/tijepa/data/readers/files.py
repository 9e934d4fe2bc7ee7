"""Files of a source: read with care, named relative to their folder, told apart by a digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tijepa.data.pairs import SetAside
from tijepa.errors import DataError

__all__ = [
    "MAX_FILE_BYTES",
    "PICTURE_SUFFIXES",
    "check_size",
    "digest_of_files",
    "glimpse",
    "inside",
    "printable",
    "read_file",
    "walk",
]

MAX_FILE_BYTES = 256_000_000  # larger pictures are not read into memory
PICTURE_SUFFIXES = frozenset(
    f".{name}" for name in ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
)


def read_file(path: Path | str) -> bytes:
    """The bytes of a regular file; `DataError` with a short reason if they cannot be had.

    A named pipe or device is refused instead of waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a regular file")
            check_size(status.st_size)
            return file.readall()
    except FileNotFoundError:
        raise DataError("file is missing") from None
    except IsADirectoryError:
        raise DataError("a folder, not a file") from None
    except OSError as error:
        raise DataError(f"file cannot be read: {error.strerror}") from None
    except ValueError:  # a null byte, or characters that no file name can hold
        raise DataError("file name is invalid") from None


def check_size(size: int) -> None:
    """Raise `DataError` if a picture of `size` bytes is too large to be read."""
    if size > MAX_FILE_BYTES:
        raise DataError(f"{size:,} bytes exceed the bound of {MAX_FILE_BYTES:,}")


def glimpse(path: Path, start: int, length: int) -> bytes:
    """Up to `length` bytes from `start` (from the end if negative); empty if it is no such file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            if start < 0:
                file.seek(max(0, path.stat().st_size + start))
            else:
                file.seek(start)
            return file.read(length)
    except (OSError, ValueError):
        return b""


def inside(root: Path, name: object) -> str:
    """`name` as a path relative to `root`; `DataError` if it is no path or leads out of it."""
    if not isinstance(name, str):
        raise DataError(f"image is {str(name)[:80]!r}, not a path")
    if not name.strip():
        raise DataError("image path is blank")
    try:
        relative = os.path.relpath(name, root) if os.path.isabs(name) else os.path.normpath(name)
    except ValueError:
        raise DataError("image path is invalid") from None
    if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
        raise DataError(f"image path leads out of the folder {root}")
    return relative


def printable(text: str) -> str:
    """`text` as valid Unicode: what UTF-8 cannot hold is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def digest_of_files(root: Path, names: Iterable[str]) -> str:
    """Hex digest of name, size and modification time of files below `root`, in the order given."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        try:
            status = os.stat(os.path.join(root, name))
            facts = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except (OSError, ValueError):
            facts = f"{name}\0missing\n"
        digest.update(facts.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def walk(root: Path) -> Iterator[tuple[str, list[str]] | SetAside]:
    """Each folder below `root` (relative, "" first) with its sorted file names, links followed.

    A link that leads back to a folder above, and a folder that cannot be listed, are `SetAside`.
    """
    return _walk(str(root), "", ())


def _walk(
    root: str, folder: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, list[str]] | SetAside]:
    path = os.path.join(root, folder)
    try:
        status = os.stat(path)
        here = (status.st_dev, status.st_ino)
        if here in above:
            yield SetAside(printable(folder), "symbolic link leads back to a folder above")
            return
        with os.scandir(path) as entries:
            kinds = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except OSError as error:
        yield SetAside(printable(folder or root), f"folder cannot be read: {error.strerror}")
        return
    yield folder, [name for name, is_folder in kinds if not is_folder]
    for name, is_folder in kinds:
        if is_folder and not name.startswith("."):
            yield from _walk(root, os.path.join(folder, name), (*above, here))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False
