"""Sources of our own: the embedded scenes, and pair stores.

The scenes are "scenes" or "scenes:SEED", images of 64 pixels as PNG. A store is read to examine it,
or to make another store of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, ReaderOptions, Record
from tijepa.data.scenes import SPLIT_SIZES, Scene, Scenes
from tijepa.data.store.schema import is_store, unpack
from tijepa.errors import ConfigError, DataError
from tijepa.registry import register
from tijepa.version import __version__

_SOURCE = re.compile(r"scenes(?::(\d{1,9}))?")
_IMAGE_SIZE = 64


@register("reader", "scenes")
class ScenesReader(Reader):
    """Every scene of every split, with its ground truth in `extra`."""

    name: ClassVar[str] = "scenes"
    priority: ClassVar[int] = 10
    addresses: ClassVar[bool] = True
    layout: ClassVar[str] = "scenes or scenes:SEED"
    follows: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, source: str, options: ReaderOptions) -> None:
        del options
        parts = _SOURCE.fullmatch(source)
        if not parts:
            raise DataError(f"'{source}' is no set of scenes: write scenes or scenes:SEED")
        self._seed = int(parts.group(1) or 0)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its name."""
        return _SOURCE.fullmatch(source) is not None

    def __iter__(self) -> Iterator[Record | Rejected]:
        return self.first(max(SPLIT_SIZES.values()))

    def first(self, most: int) -> Iterator[Record | Rejected]:
        """See `Reader.first`; the others are not drawn."""
        for split, size in SPLIT_SIZES.items():
            scenes = Scenes(split, size, self._seed, _IMAGE_SIZE, distinct=split != "train")
            for index in range(min(size, most)):
                (item,) = scenes.read([index])
                assert item.image is not None
                name = scenes.item_id(index)
                yield Record(
                    id=name,
                    reference=name,
                    image=_png(item.image.pixels(_IMAGE_SIZE)),
                    captions=item.captions,
                    split=split,
                    extra=_truth(scenes.scene(index)),
                )

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"scenes of seed {self._seed}: {self.count():,} images of {_IMAGE_SIZE} pixels"

    def fingerprint(self) -> str:
        """Of the seed and of the version that draws them."""
        facts = f"scenes {self._seed} {_IMAGE_SIZE} {SPLIT_SIZES} {__version__}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def count(self) -> int | None:
        """Number of scenes."""
        return sum(SPLIT_SIZES.values())


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _truth(scene: Scene) -> dict[str, Any]:
    """Objects, relation and background, as JSON can hold them; lengths in pixels."""
    return {
        "objects": [
            {**dataclasses.asdict(thing), "centre": list(thing.centre), "box": list(thing.box)}
            for thing in scene.objects
        ],
        "relation": None if scene.relation is None else dataclasses.asdict(scene.relation),
        "background": dataclasses.asdict(scene.background),
    }


_ROWS_AT_ONCE = 256


@register("reader", "lance")
class LanceStoreReader(Reader):
    """Every row of the latest version of a store, in order."""

    name: ClassVar[str] = "lance"
    priority: ClassVar[int] = 30
    addresses: ClassVar[bool] = True
    layout: ClassVar[str] = "a pair store (*.lance)"

    def __init__(self, source: str, options: ReaderOptions) -> None:
        from tijepa.data.store.source import Store

        if options != ReaderOptions():
            raise ConfigError(f"{source} is a store, whose columns are known: name no columns")
        self.store = Store(source)

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By its name."""
        return is_store(source)

    def __iter__(self) -> Iterator[Record | Rejected]:
        extras = self.store.info.extras
        scanner = self.store.dataset.scanner(
            columns=["id", "reference", "pair", "split", *(field.name for field in extras.fields)],
            batch_size=_ROWS_AT_ONCE,
            batch_readahead=2,
        )
        for batch in scanner.to_batches():
            columns = (batch.column(i).to_pylist() for i in range(4))
            for item, reference, pair, split, extra in zip(
                *columns, extras.rows(batch), strict=True
            ):
                yield Record(item, reference, *unpack(pair), split, extra)

    def describe(self) -> str:
        """See `Reader.describe`."""
        return f"{self.store.uri} version {self.store.version}"

    def fingerprint(self) -> str:
        """Of place and version, which never change their content."""
        return hashlib.blake2b(self.describe().encode(), digest_size=16).hexdigest()

    def count(self) -> int | None:
        """Number of rows."""
        return int(self.store.dataset.count_rows())
