"""Rows of a store as a model takes them: pictures decoded, texts listed, features where they are.

Where a run on frozen encoders has kept their features beside the store, those are read, and neither
is the picture decoded nor the encoder run. They are what the run itself was trained and calibrated
on, in the precision of its training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tijepa.data.features import Features
from tijepa.data.images import centre_square, decode_image
from tijepa.data.kept_features import KeptFeatures
from tijepa.data.store.packing import unpack
from tijepa.data.store.source import Store
from tijepa.errors import DataError
from tijepa.evaluate.kept_beside import Kept

__all__ = ["CONTENT", "Content", "Items", "Page", "digest", "read_page"]

CONTENT = ("id", "content_hash", "captions")

Content = tuple[str, str, list[str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Items(Generic[T]):
    """Pictures or texts of consecutive store rows, `rows` being that of each, ascending.

    Those that are `new` are `given`, to be encoded; the others' pooled tokens are `kept`.
    """

    rows: list[int]
    new: list[bool]
    given: list[T]
    kept: list[torch.Tensor]

    def embedded(
        self,
        encode: Callable[[list[T]], torch.Tensor],
        from_features: Callable[[Features], torch.Tensor],
    ) -> torch.Tensor:
        """One row each, in order."""
        if not self.kept:
            return encode(self.given)
        features = from_features(Features(torch.cat(self.kept)))
        if not self.given:
            return features
        values, new = torch.empty(len(self.rows), features.shape[1]), torch.tensor(self.new)
        values[new], values[~new] = encode(self.given), features
        return values


@dataclass(frozen=True)
class Page:
    """Rows of a store up to `stop`, with decoded pictures (size, size, 3)."""

    stop: int
    digest: str
    pictures: Items[NDArray[np.uint8]]
    texts: Items[str]
    unreadable: int


def read_page(store: Store, span: range, kept: Kept, size: int, pool: ThreadPoolExecutor) -> Page:
    """Read the rows `span`; pictures become squares of `size` pixels, decoded by `pool`.

    Raises `DataError` where the store cannot be read.
    """
    rows = np.arange(span.start, span.stop)
    table = store.take(rows, [*CONTENT, "pair"])
    ids, hashes, captions, pairs = (column.to_pylist() for column in table.columns)
    files = {int(row): unpack(pair)[0] for row, pair in zip(rows, pairs, strict=True)}
    pictures, unreadable = _pictures(files, kept.get("image"), size, pool)
    texts = {int(row): own for row, own in zip(rows, captions, strict=True)}
    return Page(
        stop=span.stop,
        digest=digest(list(zip(ids, hashes, captions, strict=True))),
        pictures=_items(pictures, kept.get("image")),
        texts=_items(texts, kept.get("text")),
        unreadable=unreadable,
    )


def _pictures(
    files: Mapping[int, bytes | None],
    kept: KeptFeatures | None,
    size: int,
    pool: ThreadPoolExecutor,
) -> tuple[dict[int, list[NDArray[np.uint8]]], int]:
    """The picture of each row, if it has one that can be read, and how many cannot.

    Where features are kept nothing is decoded.
    """
    held = {row: data for row, data in files.items() if data is not None}
    new = {row: data for row, data in held.items() if kept is None or not kept.covers(row)}
    decoded = dict(zip(new, pool.map(partial(_square, size), new.values()), strict=True))
    unreadable = sum(picture is None for picture in decoded.values())
    if kept is not None:
        unreadable += sum(kept.unreadable(row) for row in held.keys() - new.keys())
    readable = {row: [picture] for row, picture in decoded.items() if picture is not None}
    return {row: readable.get(row, []) for row in files}, unreadable


def _items(of_row: Mapping[int, list[T]], kept: KeptFeatures | None) -> Items[T]:
    """The items of some rows, by what is kept of them where something is."""
    found: Items[T] = Items([], [], [], [])
    for row, given in of_row.items():
        if kept is not None and kept.covers(row):
            features = kept.pooled(row)
            found.kept.append(features)
            count, new = len(features), False
        else:
            found.given.extend(given)
            count, new = len(given), True
        found.rows.extend([row] * count)
        found.new.extend([new] * count)
    return found


def _square(size: int, data: bytes) -> NDArray[np.uint8] | None:
    """The largest centred square, as the model takes it; None where the bytes give no picture."""
    try:
        pixels = decode_image(data, size)
    except DataError:
        return None
    return centre_square(pixels, size)


def digest(rows: list[Content]) -> str:
    """A hash of what rows hold: ids, pictures and captions."""
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
