"""Sound items to record batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from tijepa.data.check import Sound
from tijepa.data.store.packing import pack
from tijepa.data.store.schema import StoreInfo

__all__ = ["grouped", "storable", "to_batch"]

MOST_ROWS = 2048
MOST_BYTES = 16 * 2**20  # of pictures; a single larger picture is a batch of its own


def grouped(items: Iterable[Sound]) -> Iterator[list[Sound]]:
    """Lists of at most 2,048 items that end once their pictures reach 16 MiB."""
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
    pictures = [sound.picture for sound in sounds]
    arrays = [
        pa.array([storable(record.id) for record in records], pa.string()),
        pa.array([pack(s.record.image, s.captions) for s in sounds], pa.large_binary()),
        pa.array([list(sound.captions) for sound in sounds], pa.list_(pa.string())),
        pa.array([storable(record.split or "") for record in records], pa.string()),
        pa.array([p.width if p else None for p in pictures], pa.int32()),
        pa.array([p.height if p else None for p in pictures], pa.int32()),
        pa.array([p.format if p else None for p in pictures], pa.string()),
        pa.array([storable(record.reference) for record in records], pa.string()),
        pa.array([sound.content_hash for sound in sounds], pa.string()),
        pa.array([p.difference_hash if p else None for p in pictures], pa.uint64()),
        *info.extras.arrays([record.extra for record in records]),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def storable(text: str) -> str:
    """`text` with what UTF-8 cannot hold (bytes of a file name) written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
