"""Whatever holds pairs as splits: scenes, a store, or a source that is prepared into the cache."""

from __future__ import annotations

from tijepa.data.pairs import PairSplits
from tijepa.data.scenes import scenes_splits
from tijepa.data.store.schema import is_store
from tijepa.io.progress import SILENT, Reporter

__all__ = ["open_splits"]


def open_splits(
    source: str,
    *,
    image_size: int,
    seed: int,
    max_bad: float,
    version: int | None = None,
    state: str | None = None,
    reporter: Reporter = SILENT,
) -> PairSplits:
    """Open the splits of `source`.

    That is "scenes" (procedural), a store (its path or URI ends with .lance; its latest version
    unless `version` is given), or whatever `tijepa prepare` reads: this is prepared into the cache
    first, unless it stands there unchanged, and `reporter` is told how far that is; where the cache
    still holds what was prepared of its earlier `state`, that is opened. `seed` and
    `image_size` (pixels) define the scenes; `max_bad` bounds the share of broken items of what is
    prepared. Raises `DataError` if the source cannot be used.
    """
    if source == "scenes":
        return scenes_splits(image_size, seed)
    if is_store(source):
        from tijepa.data.store.source import open_store

        return open_store(source, version)
    from tijepa.data.store.prepare import open_cached

    return open_cached(source, max_bad, state, reporter)
