"""Record batches into a Lance dataset: everything as one version, or nothing.

Lance writes on a thread of its own that takes batches from a short queue, so that producing them
and writing overlap and an interrupt of the producer reaches it between two batches.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import pyarrow as pa

from tijepa.data.store.schema import (
    STORAGE_VERSION,
    StoreInfo,
    is_remote,
    local_path,
    pack,
    storage_problem,
)
from tijepa.data.validation.check import Sound
from tijepa.errors import DataError
from tijepa.io.files import neighbour

_WAITING = 2  # batches between producer and writer
# one file for each version, or a batch of random rows would open and decode parts of many files
_ROWS_PER_FILE = 1_000_000_000
# of all columns together, before a piece of one is written: the fewer pieces (pages) a column has,
# the less a batch of random rows costs
_WAITING_BYTES = 160 * 2**20
_POLL = 0.2  # seconds between looks at whether the writer still lives
MOST_ROWS = 2048
MOST_BYTES = 16 * 2**20  # of images; a single larger image is a batch of its own


def create_store(uri: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write `batches` as a new dataset at `uri`, where nothing may stand, and return its version.

    If `batches` raises or the disk is full, nothing stands at `uri`: a local dataset is written
    beside it and renamed, and on object storage nothing is a dataset before Lance commits it
    (pieces of an interrupted one stay behind there, unreferenced).
    """
    if is_remote(uri):
        return _write(uri, uri, "create", schema, batches)
    final = local_path(uri)
    with _writing(uri):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = neighbour(final)
    try:
        version = _write(str(temporary), uri, "create", schema, batches)
        with _writing(uri):
            if final.exists():  # os.rename would replace an empty folder without a word
                raise DataError(f"{final} appeared while it was being written: name another `out`")
            temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return version


def append_batches(uri: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Add `batches` to the store at `uri` as one new version, which is returned.

    If `batches` raises or the disk is full, the store stays at its version.
    """
    place = uri if is_remote(uri) else str(local_path(uri))
    return _write(place, uri, "append", schema, batches)


@contextmanager
def _writing(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(uri, error.strerror or str(error)) from None


class _AbandonedError(Exception):
    """The producer failed, so the writer must not commit."""


def _write(
    place: str,
    uri: str,
    mode: Literal["create", "append"],
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
) -> int:
    import lance

    waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(_WAITING)
    abandoned = threading.Event()
    versions: list[int] = []
    failures: list[Exception] = []

    def supply() -> Iterator[pa.RecordBatch]:
        while not abandoned.is_set():
            try:
                batch = waiting.get(timeout=_POLL)
            except queue.Empty:
                continue
            if batch is None:
                return
            yield batch
        raise _AbandonedError

    def write() -> None:
        try:
            reader = pa.RecordBatchReader.from_batches(schema, supply())
            dataset = lance.write_dataset(
                reader,
                place,
                mode=mode,
                data_storage_version=STORAGE_VERSION,
                max_rows_per_file=_ROWS_PER_FILE,
                data_cache_bytes=_WAITING_BYTES,
            )
            versions.append(dataset.version)
        except (OSError, ValueError) as error:
            failures.append(error)

    def put(batch: pa.RecordBatch | None) -> bool:
        """Whether the writer still took it."""
        while thread.is_alive():
            try:
                waiting.put(batch, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    thread = threading.Thread(target=write, name="tijepa-store-writer", daemon=True)
    thread.start()
    try:
        if all(map(put, batches)):
            put(None)
        thread.join()
    except BaseException:
        abandoned.set()
        thread.join()
        raise
    if failures:
        raise _cannot_write(uri, storage_problem(failures[0])) from None
    return versions[0]


def _cannot_write(uri: str, reason: str) -> DataError:
    return DataError(
        f"cannot write {uri}: {reason}; nothing of it was kept: mend that or write elsewhere "
        "(`out`; TIJEPA_CACHE where a folder is prepared for training)"
    )


def grouped(items: Iterable[Sound]) -> Iterator[list[Sound]]:
    """Lists of at most 2,048 items that end once their images reach 16 MiB."""
    group: list[Sound] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item.record.image or b"")
        if len(group) >= MOST_ROWS or size >= MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def to_batch(sounds: Sequence[Sound], info: StoreInfo, schema: pa.Schema) -> pa.RecordBatch:
    """The items, each with its split, as columns of `schema`, which belongs to `info`."""
    records = [sound.record for sound in sounds]
    images = [sound.image for sound in sounds]
    arrays = [
        pa.array([storable(record.id) for record in records], pa.string()),
        pa.array([pack(s.record.image, s.captions) for s in sounds], pa.large_binary()),
        pa.array([list(sound.captions) for sound in sounds], pa.list_(pa.string())),
        pa.array([storable(record.split or "") for record in records], pa.string()),
        pa.array([p.width if p else None for p in images], pa.int32()),
        pa.array([p.height if p else None for p in images], pa.int32()),
        pa.array([p.format if p else None for p in images], pa.string()),
        pa.array([storable(record.reference) for record in records], pa.string()),
        pa.array([sound.content_hash for sound in sounds], pa.string()),
        pa.array([p.difference_hash if p else None for p in images], pa.uint64()),
        *info.extras.arrays([record.extra for record in records]),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def storable(text: str) -> str:
    """`text` with what UTF-8 cannot hold (bytes of a file name) written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
