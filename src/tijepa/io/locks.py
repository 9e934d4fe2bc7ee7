"""Locks between processes."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tijepa.errors import DataError
from tijepa.io.progress import Reporter

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
