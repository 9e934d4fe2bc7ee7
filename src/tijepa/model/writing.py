"""Files that appear whole or not at all; a disk that is full or cannot be written, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tijepa.errors import CheckpointError

__all__ = ["whole", "write_whole", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `CheckpointError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another"
            " --out"
        ) from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write, which takes the place of `path` once the block is through.

    So a reader sees the old file or the new one. Raises `CheckpointError` as `writing` does.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
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
