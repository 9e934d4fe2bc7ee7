"""Files that appear whole or not at all, errors of a disk in one line, locks between processes."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tijepa.errors import CheckpointError, DataError
from tijepa.io.progress import Reporter

_REMEDIES = {
    errno.ENOSPC: "free some space or name another `out`",
    errno.EDQUOT: "free some space or name another `out`",
    errno.EACCES: "change its permissions or name another folder",
    errno.EPERM: "change its permissions or name another folder",
    errno.EROFS: "name a folder that can be written",
    errno.ENOENT: "make its folder first, or name another",
    errno.ENOTDIR: "a part of the path is a file; name another",
    errno.EISDIR: "the path is a folder; name a file",
    errno.ENAMETOOLONG: "shorten the path",
}


def remedy_of(error: OSError) -> str | None:
    """What the user can do about an error of the disk; None where it may be a bug."""
    return _REMEDIES.get(error.errno or 0)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `CheckpointError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error};"
            f" {remedy_of(error) or 'free some space or name another `out`'}"
        ) from None


def check_writable(folder: Path) -> None:
    """Raise `CheckpointError` where `folder` cannot be made or written, without making it."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    with writing(folder):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """As `replacing`, for what a user asked for: raises `CheckpointError` as `writing` does."""
    with writing(path), replacing(path) as temporary:
        yield temporary


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write, which takes the place of `path` once the block is through.

    So a reader sees the old file or the new one. Raises `OSError` where that is not possible.
    """
    temporary = neighbour(path)
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # it is gone after success
            temporary.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary neighbour; see `whole`."""
    with whole(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty neighbour folder, which takes the place of `path` once the block is through.

    Where anything fails, the old folder stays. Raises `CheckpointError` as `writing` does.
    """
    temporary = neighbour(path)
    try:
        with writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                os.replace(path, path.with_name(f".{path.name}.replaced.{os.getpid()}.tmp"))
            os.replace(temporary, path)
    finally:
        tidy(path.parent, path.name)


def neighbour(path: Path) -> Path:
    """Where this process writes what becomes `path`; nothing stands there."""
    tidy(path.parent, path.name)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def tidy(folder: Path, name: str | None = None) -> None:
    """Remove what writers of `name` (of anything in `folder` without it) left that were killed.

    A folder that one had moved aside, and died before its place was taken, is put back.
    """
    for left in folder.glob(".*.tmp" if name is None else f".{glob.escape(name)}.*.tmp"):
        found = re.fullmatch(r"\.(.+?)(\.replaced)?\.(\d+)\.tmp", left.name)
        if found is None or name not in (None, found[1]):
            continue
        if int(found[3]) != os.getpid() and _lives(int(found[3])):
            continue
        if not left.is_dir():
            left.unlink(missing_ok=True)
        elif found[2] and not (folder / found[1]).exists():
            os.replace(left, folder / found[1])
        else:
            shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


try:
    import fcntl
except ImportError:  # Windows: entries are never removed while another process might use them
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock between processes on a file, which stays; given back when this object goes."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        self.close = weakref.finalize(self, os.close, self._descriptor)

    def share(self) -> None:
        """Hold it together with others that share it."""
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def take(self) -> None:
        """Hold it alone; waits until nobody else holds it."""
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_take(self) -> bool:
        """Hold it alone if nobody else holds it."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def alone(
    folder: Path, unwritable: Callable[[Path, OSError], DataError], reporter: Reporter
) -> Iterator[None]:
    """Hold the lock beside `folder`, so that one process at a time fills it.

    Waits for another one, and says so. Where the lock cannot be made the error is what `unwritable`
    says of the folder.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    except OSError as error:
        raise unwritable(folder, error) from None
    with closing(lock):
        if not lock.try_take():
            if fcntl is not None:
                text = f"waiting for another process that fills {folder}"
                reporter.say(text)
            lock.take()
        yield
