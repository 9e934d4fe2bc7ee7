"""A source into a store: read, check, split, diagnose, write; all of it or nothing.

Sources given to training directly, prepared once and kept: one store for each state of each.

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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa

from tijepa.data.pairs import PairSplits, Rejected, rejected_file
from tijepa.data.readers import open_reader
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.ingest import (
    IdIndex,
    Ingest,
    Plan,
    SplitAssigner,
    StartAgainError,
    existing_rows,
)
from tijepa.data.store.schema import (
    SCHEMA_VERSION,
    ExtraColumns,
    StoreInfo,
    is_remote,
    is_store,
    local_path,
    misfits,
    schema_of,
    store_exists,
)
from tijepa.data.store.source import Store, open_store
from tijepa.data.store.writer import append_batches, create_store, grouped, to_batch
from tijepa.data.validation import Diagnosis, Report
from tijepa.data.validation.check import Sound
from tijepa.data.validation.report import reading_words
from tijepa.errors import ConfigError, DataError
from tijepa.io.files import FileLock
from tijepa.io.progress import SILENT, Reporter

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Prepared:
    """What was written: the store and its version, items added by split, and what was not.

    `misfits` are values by column of the source for which the store has no column that takes them.
    """

    uri: str
    version: int
    added: Mapping[str, int]
    skipped: int
    rejected: int
    report: Report
    misfits: Mapping[str, int] = field(default_factory=dict)


def prepare(
    source: str,
    out: str,
    *,
    append: bool = False,
    reader: str | None = None,
    image_column: str | None = None,
    caption_column: str | Sequence[str] | None = None,
    split_column: str | None = None,
    first: int | None = None,
    max_bad: float = 0.01,
    duplicates: Literal["keep", "skip"] = "keep",
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Prepared:
    """Check every pair of `source` and write the sound ones into the pair store `out`, NAME.lance.

    With `append` the store gets what it lacks as a new version. `source`, `reader` and the columns
    are as for `tijepa.doctor`; of `first` only so many items of each split are taken. Above the
    share `max_bad` of broken items nothing is kept. `threads` decode, as many as there are cores
    where None.

        prepared = tijepa.prepare("photos", "photos.lance")
        prepared.added, prepared.rejected, prepared.report.folder

    Raises `ConfigError` for options that have no effect, `DataError` as `write_store` does.
    """
    if not is_store(out):
        raise ConfigError(f"`out` {out} does not end with .lance: name it {out.rstrip('/')}.lance")
    if append and duplicates != "keep":
        raise ConfigError("`duplicates=skip` has no effect with `append`: leave one of them")
    options = ReaderOptions.of(image_column, caption_column, split_column)
    opened = open_reader(source, reader=reader, options=options)
    reporter.say(f"reading   {opened.describe()}")
    if first is not None:
        reporter.say(f"only      the first {first:,} items of each split")
    arguments = reading_words(reader, options)
    arguments += [] if first is None else ["--first", str(first)]
    threads = (os.cpu_count() or 1) if threads is None else threads
    with reporter.bar("preparing", opened.count() if first is None else None) as advance:
        write = append_store if append else partial(write_store, duplicates=duplicates)
        return write(
            opened,
            out,
            source=source,
            arguments=arguments,
            most=first,
            max_bad=max_bad,
            threads=threads,
            advance=advance,
        )


def diagnosis_folder(uri: str) -> Path:
    """Where the diagnosis of the store at `uri` lies: beside it, `pairs.prepared`.

    For a store on object storage it is in the working folder.
    """
    place = Path(uri.rstrip("/").rsplit("/", 1)[1]) if is_remote(uri) else local_path(uri)
    return place.with_suffix(".prepared")


def write_store(
    reader: Reader,
    uri: str,
    *,
    source: str | None = None,
    arguments: Sequence[str] = (),
    most: int | None = None,
    max_bad: float = 0.01,
    duplicates: Literal["keep", "skip"] = "keep",
    threads: int = 1,
    advance: Advance = lambda count: None,
) -> Prepared:
    """Make a new store at `uri` of what `reader` gives; its diagnosis lies in `diagnosis_folder`.

    `source` is how the user named the source and `arguments` the options by which it is read, for
    the commands that the diagnosis proposes. With `most` only so many items of each split are
    taken.

    Streams: memory is bounded by a few batches of at most 16 MiB or one image, and by the
    diagnosis (about 100 bytes an item). A source may have to be read again: where an item names a
    split and earlier ones did not, where it is too small for splits by hash, and where `duplicates`
    are skipped. Raises `DataError` where something stands at `uri`,
    the source is unfit, or the storage cannot be written; then nothing of it is kept.
    """
    if store_exists(uri):
        raise DataError(
            f"{uri} exists already: say `append=True` to add what it lacks, or name another `out`"
        )
    described = _described(reader, most)
    plan = Plan()
    while True:
        with Diagnosis(
            diagnosis_folder(uri),
            source=source or uri,
            description=described,
            arguments=arguments,
            max_bad=max_bad,
        ) as diagnosis:
            splits = SplitAssigner(plan)
            skip = duplicates == "skip"
            ingest = Ingest(source or uri, diagnosis, splits, max_bad=max_bad, drop_duplicates=skip)
            sounds = ingest.items(_taken(diagnosis, reader, most, advance), threads=threads)
            try:
                with closing(sounds):
                    version = _create(described, uri, splits, sounds)
            except StartAgainError as error:
                plan = error.plan
                continue
            return _prepared(ingest, diagnosis, uri, version)


def append_store(
    reader: Reader,
    uri: str,
    *,
    source: str | None = None,
    arguments: Sequence[str] = (),
    most: int | None = None,
    max_bad: float = 0.01,
    threads: int = 1,
    advance: Advance = lambda count: None,
) -> Prepared:
    """Add what the store at `uri` lacks as one new version; items that it holds are skipped.

    An item whose id stands for something else there is skipped.
    Where the store's splits were named, an item without one is skipped; else it is split by the
    hash. The diagnosis is of the new items; duplicates are sought among them and all that stand in
    the store, for which its rows are read without their images. Nothing new leaves the version as
    it is. Raises `DataError` like `write_store`; then the store stays at its version.
    """
    store = Store(uri)
    index, unfit = IdIndex(store.dataset.count_rows()), Counter[str]()
    splits = SplitAssigner(Plan(named=store.info.splits == "named", moved={}), mixed=True)
    with Diagnosis(
        diagnosis_folder(uri) / f"version-{store.version + 1}",
        source=source or uri,
        description=_described(reader, most),
        arguments=arguments,
        store=uri,
        max_bad=max_bad,
    ) as diagnosis:
        diagnosis.know(index.passing(existing_rows(store)))
        ingest = Ingest(source or uri, diagnosis, splits, max_bad=max_bad)
        taken = _taken(diagnosis, reader, most, advance)
        sounds = ingest.items(index.without(taken, diagnosis.account), threads=threads, fewest=0)
        with closing(sounds):
            groups = grouped(sounds)
            first = next(groups, None)
            version = store.version
            if first is not None:
                batches = _batches(chain([first], groups), store.info)
                version = append_batches(uri, schema_of(store.info), _noting(batches, unfit))
    return _prepared(ingest, diagnosis, uri, version, unfit)


def _prepared(
    ingest: Ingest,
    diagnosis: Diagnosis,
    uri: str,
    version: int,
    unfit: Mapping[str, int] | None = None,
) -> Prepared:
    assert ingest.report is not None
    account = diagnosis.account
    return Prepared(
        uri,
        version,
        dict(ingest.counts),
        account.known,
        account.rejected,
        ingest.report,
        dict(unfit or {}),
    )


def _noting(batches: Iterable[pa.RecordBatch], unfit: Counter[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        unfit.update(misfits(batch))
        yield batch


def _create(description: str, uri: str, splits: SplitAssigner, sounds: Iterator[Sound]) -> int:
    groups = grouped(sounds)
    first = next(groups, [])  # the whole of a small source, which the last step may refuse here
    extras = ExtraColumns.infer(sound.record.extra for sound in first)
    info = StoreInfo(description, "named" if splits.named else "hashed", extras)
    return create_store(uri, schema_of(info), _batches(chain([first], groups), info))


def _batches(groups: Iterable[list[Sound]], info: StoreInfo) -> Iterator[pa.RecordBatch]:
    schema = schema_of(info)
    return (to_batch(group, info, schema) for group in groups)


def _taken(
    diagnosis: Diagnosis, reader: Reader, most: int | None, advance: Advance
) -> Iterator[Record | Rejected]:
    """What the reader gives, or the first of each split, on the diagnosis' account."""
    if most is not None:
        return diagnosis.account.taking(reader.first(most), advance)
    diagnosis.account.held = reader.count()
    return diagnosis.account.taking(reader, advance)


def _described(reader: Reader, most: int | None) -> str:
    only = "" if most is None else f"; the first {most:,} of each split"
    return f"{reader.describe()}{only}"


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
