"""The data of a run, at the version that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.errors import CheckpointError, DataError
from tijepa.model.saving import read_json

__all__ = ["open_run_data"]


def open_run_data(
    config: RunConfig, run: Path | None, console: Console, *, other: str | None = None
) -> PairSplits:
    """Open `other`, or else the source of `config`; a store at the version that `run` recorded.

    So rows that were appended since change nothing for a run that is resumed or evaluated. What was
    prepared into the cache is the same as long as the cache keeps it, whatever happened to its
    source; the description of the splits says so. `run` is None for a new one, which takes the
    latest version. Raises `DataError` where the data cannot be used, that version is gone, or the
    source has changed and nothing is kept of how it was, `CheckpointError` where the run's record
    is damaged.
    """
    recorded: Mapping[str, Any] = {}
    source = other or config.data.source
    if other is None and run is not None:
        recorded = _recorded(run, source)
        source = recorded.get("uri", source)
    state = recorded.get("state")
    splits = open_splits(
        source,
        image_size=config.data.image_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
        version=recorded.get("version"),
        state=state,
        console=console,
    )
    if state not in (None, splits.state):
        raise DataError(
            f"{source} has changed since {run} began (names, sizes or times of its files), and the"
            " cache no longer holds how it was: restore it; or evaluate on what it is now with"
            f" --data {source}, or train anew into another --out"
        )
    return splits


def _recorded(run: Path, source: str) -> Mapping[str, Any]:
    """`uri` and `version` of a run on a store, or `state` of what was prepared into the cache."""
    from tijepa.data.store.location import is_store

    path = run / "environment.json"
    environment = read_json(path) if path.exists() or is_store(source) else {}
    store = environment.get("store") if isinstance(environment, dict) else None
    if not isinstance(store, dict):
        store = {}
    if not is_store(source):
        return {"state": str(store["state"])} if "state" in store else {}
    if not {"uri", "version"} <= store.keys():
        raise CheckpointError(f"{path} does not say which version of {source} it used; restore it")
    return {"uri": str(store["uri"]), "version": int(store["version"])}
