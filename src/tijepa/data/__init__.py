"""Pairs in, batches out."""

from __future__ import annotations

from tijepa.data.folder import folder_splits
from tijepa.data.pairs import PairSplits
from tijepa.data.scenes import scenes_splits

__all__ = ["open_splits"]


def open_splits(source: str, *, image_size: int, seed: int, max_bad: float) -> PairSplits:
    """Open the splits of `source`: "scenes" (procedural) or the path of a folder.

    `seed` and `image_size` (pixels) define the scenes; `max_bad` bounds the share of broken items
    of a folder. Raises `DataError` if the folder cannot be used.
    """
    if source == "scenes":
        return scenes_splits(image_size, seed)
    return folder_splits(source, max_bad=max_bad)
