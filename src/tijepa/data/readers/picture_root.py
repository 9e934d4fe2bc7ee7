"""Where the pictures are that an annotation file names without saying in which folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["picture_root"]

_PROBED = 20


def picture_root(candidates: Iterable[Path], names: Sequence[str]) -> Path:
    """The candidate folder that holds most of the first names; the first one of equals."""
    folders = list(dict.fromkeys(candidates))
    probes = names[:_PROBED]

    def held(folder: Path) -> int:
        return sum(_exists(folder / name) for name in probes)

    return max(folders, key=held)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
