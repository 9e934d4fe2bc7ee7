"""The data of a run, at the version that it began with."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.errors import CheckpointError
from tijepa.model.saving import read_json

__all__ = ["open_run_data"]


def open_run_data(
    config: RunConfig, run: Path | None, console: Console, *, other: str | None = None
) -> PairSplits:
    """Open `other`, or else the source of `config`; a store at the version that `run` recorded.

    So rows that were appended since change nothing for a run that is resumed or evaluated. `run` is
    None for a new one, which takes the latest version. Raises `DataError` where the data cannot be
    used or that version is gone, `CheckpointError` where the run's record is damaged.
    """
    source, version = other or config.data.source, None
    if other is None and run is not None:
        source, version = _recorded(run, source)
    return open_splits(
        source,
        image_size=config.data.image_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
        version=version,
        console=console,
    )


def _recorded(run: Path, source: str) -> tuple[str, int | None]:
    """Store and version of a run on a store; `source` as it is where it was none."""
    from tijepa.data.store.location import is_store

    if not is_store(source):
        return source, None  # prepared anew where it has changed
    path = run / "environment.json"
    environment = read_json(path)
    store = environment.get("store") if isinstance(environment, dict) else None
    if not isinstance(store, dict) or not {"uri", "version"} <= store.keys():
        raise CheckpointError(f"{path} does not say which version of {source} it used; restore it")
    return str(store["uri"]), int(store["version"])
