"""Our loader over a pair store, written as `tijepa prepare` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from loading.photos import Photo
from tijepa.data import open_splits
from tijepa.data.batches.loader import Loader
from tijepa.data.pairs import PairSource, Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.store.prepare import write_store
from tijepa.data.tokenizer import Tokenizer

__all__ = ["load_ours", "write_pairs"]


class _Photos(Reader):
    """Photos that are in memory."""

    name = "photos"
    layout = "photos in memory"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self.photos: Sequence[Photo] = ()

    @classmethod
    def recognises(cls, source: str) -> bool:
        return False

    def __iter__(self) -> Iterator[Record | Rejected]:
        for photo in self.photos:
            yield Record(photo.name, photo.name, photo.jpeg, photo.captions, "train")

    def describe(self) -> str:
        return self.layout

    def fingerprint(self) -> str:
        return str(len(self.photos))


def write_pairs(photos: Sequence[Photo], path: Path) -> PairSource:
    """A store with one item for each photo, opened."""
    reader = _Photos("", ReaderOptions())
    reader.photos = photos
    write_store(reader, str(path))
    return open_splits(str(path), image_size=224, seed=0, max_bad=0.0).split("train")


def load_ours(
    source: PairSource, tokenizer: Tokenizer, batches: int, *, batch_size: int, threads: int
) -> int:
    """Pairs of `batches` batches, from the beginning of the stream."""
    with Loader(
        source,
        tokenizer,
        batch_size=batch_size,
        image_size=224,
        max_tokens=48,
        seed=0,
        crop_scale=(0.9, 1.0),
        threads=threads,
    ) as loader:
        return sum(len(batch) for batch in islice(loader, batches))
