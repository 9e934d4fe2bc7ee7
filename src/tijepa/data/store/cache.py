"""Sources given to training directly, prepared once and kept: one store for each state of each.

A store lies under `$TIJEPA_CACHE`, else `$XDG_CACHE_HOME/tijepa`, else `~/.cache/tijepa`, in
`stores/NAME-SOURCE-STATE.lance`: SOURCE is a hash of path and reader, STATE one of what the reader
sees of the source (names, sizes, times). The folder can be deleted whenever nothing is running.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import closing
from pathlib import Path

from tijepa.data.pairs import PairSplits, Rejected, rejected_file
from tijepa.data.readers import open_reader
from tijepa.data.records import Reader
from tijepa.data.store.prepare import diagnosis_folder, write_store
from tijepa.data.store.schema import SCHEMA_VERSION
from tijepa.data.store.source import open_store
from tijepa.errors import DataError
from tijepa.io.files import FileLock
from tijepa.io.progress import Reporter


def cache_folder() -> Path:
    """Where prepared stores are kept."""
    chosen = os.environ.get("TIJEPA_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "stores"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tijepa" / "stores"


def open_cached(source: str, max_bad: float, state: str | None, reporter: Reporter) -> PairSplits:
    """Open the store of `source` as it is now, after making it if there is none.

    Where `state` is given, an earlier one of the source, and its store is still kept, that is
    opened instead, and the description says so.

    Two processes that ask at once make one store: the second waits. Stores of earlier states of the
    source are removed unless somebody reads them. Raises `DataError` where the source cannot be
    used or the folder cannot be written.
    """
    reader = open_reader(source)
    now = _hash(f"{reader.fingerprint()} {max_bad} {SCHEMA_VERSION}")
    path = _entry(source, reader, now)
    if state not in (None, now):
        earlier = _entry(source, reader, str(state))
        hold = _held(earlier)
        if hold is not None:
            description = f"{reader.describe()}, as it was before it changed"
            return _opened(earlier, hold, description, str(state))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hold, making = FileLock(path.with_suffix(".lock")), FileLock(path.with_suffix(".making"))
    except OSError as error:
        raise DataError(
            f"cannot keep a prepared copy of {source} in {path.parent}: {error.strerror}; set "
            "TIJEPA_CACHE to a folder that can be written"
        ) from None
    hold.share()
    with closing(making):
        if not path.exists():
            making.take()
            if not path.exists():  # nor did another process make it meanwhile
                _make(path, reader, source, max_bad, reporter)
            _remove_stale(path)
    return _opened(path, hold, reader.describe(), now)


def _make(path: Path, reader: Reader, source: str, max_bad: float, reporter: Reporter) -> None:
    with reporter.bar(f"preparing {source}", reader.count()) as advance:
        threads = os.cpu_count() or 1
        write_store(
            reader, str(path), source=source, max_bad=max_bad, threads=threads, advance=advance
        )


def _opened(path: Path, hold: FileLock, description: str, state: str) -> PairSplits:
    return open_store(
        str(path), hold=hold, rejected=_rejected(path), description=description, state=state
    )


def _held(path: Path) -> FileLock | None:
    """A share of the store at `path`, so that nobody removes it; None where it is not there."""
    if not path.exists():
        return None
    hold = FileLock(path.with_suffix(".lock"))
    hold.share()
    return hold if path.exists() else None


def _entry(source: str, reader: Reader, state: str) -> Path:
    place = str(Path(source).expanduser().absolute()) if os.path.exists(source) else source
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(place).name).strip("-")[:40] or "source"
    return cache_folder() / f"{name}-{_hash(f'{reader.name} {place}')}-{state}.lance"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _rejected(path: Path) -> tuple[Rejected, ...]:
    """What the diagnosis beside the store rejected, items only."""
    file = rejected_file(diagnosis_folder(str(path)))
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    entries = map(json.loads, lines)
    return tuple(Rejected(e["item"], e["reason"]) for e in entries if e["what"] == "item")


def _remove_stale(path: Path) -> None:
    """Remove other states of the same source that no process reads."""
    prefix = path.stem.rsplit("-", 1)[0]
    for other in path.parent.glob(f"{prefix}-*.lance"):
        if other == path:
            continue
        with closing(FileLock(other.with_suffix(".lock"))) as lock:
            if lock.try_take():
                shutil.rmtree(other, ignore_errors=True)
                shutil.rmtree(diagnosis_folder(str(other)), ignore_errors=True)
                shutil.rmtree(other.with_suffix(".features"), ignore_errors=True)
