"""A disk that is full or cannot be written, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tijepa.errors import CheckpointError

__all__ = ["writing"]


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
