"""The embedded data set as a source of pairs: nothing is stored, every item is made when asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tijepa.data.pairs import Item, PairSource, PairSplits, StoredImage
from tijepa.data.scenes.render import render
from tijepa.data.scenes.wording import captions
from tijepa.data.scenes.world import Scene, draw_scene
from tijepa.errors import DataError

SPLIT_SIZES = {"train": 100_000, "validation": 2_000, "test": 2_000, "novel": 2_000}

_SPLIT_NUMBERS = {name: number for number, name in enumerate(SPLIT_SIZES)}
_INDEX_BITS = 48
_MIN_IMAGE_SIZE = 32


class Scenes(PairSource):
    """Images of one to four shapes, with five captions each and their ground truth.

    An item depends on (seed, split, index) alone, whatever the size, the image size (apart from
    scale) and the order of access. Splits use disjoint random streams; held-out combinations of
    colour and shape (`NOVEL_COMBINATIONS`) occur in every item of "novel" and in no other split.
    With `distinct` the items are those scenes of the stream whose content
    (`Scene.content`) no earlier one has, so no caption fits two of them.

    Raises `DataError` for an unknown split, size < 1, image_size < 32 or a negative seed.
    """

    def __init__(
        self, split: str, size: int, seed: int = 0, image_size: int = 64, distinct: bool = False
    ) -> None:
        if split not in SPLIT_SIZES:
            known = ", ".join(SPLIT_SIZES)
            raise DataError(f"split '{split}' is unknown in scenes; known: {known}")
        if not 1 <= size < 1 << _INDEX_BITS:
            raise DataError(f"scenes of size {size}: a split needs between 1 and 2^48 items")
        if seed < 0:
            raise DataError(f"scenes with seed {seed}: choose a seed of 0 or more")
        if image_size < _MIN_IMAGE_SIZE:
            raise DataError(
                f"scenes of {image_size} pixels: objects blur below {_MIN_IMAGE_SIZE}, choose more"
            )
        self.split = split
        self.seed = seed
        self.image_size = image_size
        self._size = size
        self._base = (seed * len(SPLIT_SIZES) + _SPLIT_NUMBERS[split]) << _INDEX_BITS
        self._distinct = _Distinct(self) if distinct else None

    def __len__(self) -> int:
        return self._size

    def item_id(self, index: int) -> str:
        """'scenes-SEED/SPLIT/NUMBER', where NUMBER is the place in the split's stream."""
        return f"scenes-{self.seed}/{self.split}/{self._number(index):06d}"

    def scene(self, index: int) -> Scene:
        """The ground truth of item `index`."""
        return self.numbered(self._number(index))

    def read(self, indexes: Sequence[int]) -> list[Item]:
        """Items with five wordings each, all true and naming every object."""
        scenes = (self.scene(index) for index in indexes)
        return [Item(captions(scene), _Drawing(scene)) for scene in scenes]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        """The five wordings of each."""
        return [captions(self.scene(index)) for index in indexes]

    def numbered(self, number: int) -> Scene:
        """Scene `number` of the split's endless stream, before any thinning to distinct ones."""
        return draw_scene(self._base + number, self.split == "novel", self.image_size)

    def _number(self, index: int) -> int:
        if not 0 <= index < self._size:
            raise IndexError(f"item {index} of {self._size} scenes")
        return int(index) if self._distinct is None else self._distinct.number(int(index))


@dataclass(frozen=True)
class _Drawing(StoredImage):
    """A scene that is drawn when its pixels are asked for."""

    scene: Scene

    def pixels(self, min_side: int) -> np.ndarray:
        """uint8 (image_size, image_size, 3) RGB; never scaled down, whatever `min_side`."""
        del min_side
        return render(self.scene)


class _Distinct:
    """Numbers of the scenes whose content is new, found on demand and remembered."""

    def __init__(self, source: Scenes) -> None:
        self._source = source
        self._numbers: list[int] = []
        self._seen: set[tuple[object, ...]] = set()
        self._next = 0
        self._lock = threading.Lock()

    def number(self, index: int) -> int:
        if index >= len(self._numbers):
            with self._lock:
                while index >= len(self._numbers):
                    self._scan()
        return self._numbers[index]

    def _scan(self) -> None:
        content = self._source.numbered(self._next).content()
        if content not in self._seen:
            self._seen.add(content)
            self._numbers.append(self._next)
        self._next += 1


def scenes_splits(image_size: int, seed: int) -> PairSplits:
    """All four splits at their default sizes; all but "train" hold distinct scenes only."""
    return PairSplits(
        splits={
            name: Scenes(name, size, seed, image_size, distinct=name != "train")
            for name, size in SPLIT_SIZES.items()
        },
        rejected=(),
        description=f"scenes (seed {seed}, {image_size} pixels)",
    )
