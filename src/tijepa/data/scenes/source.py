"""The embedded data set as a source of pairs: nothing is stored, every item is made when asked.

From a scene to pixels: a textured background, smooth-edged objects, light, noise. Channels come
first while painting (whole planes are fast), last in the result. Textures and noise are cut at
random places out of tables made once per image size.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tijepa.data.batches.order import uniforms
from tijepa.data.pairs import Item, PairSource, PairSplits, StoredImage
from tijepa.data.scenes.shapes import DISTANCES
from tijepa.data.scenes.wording import captions
from tijepa.data.scenes.world import BACKGROUNDS, COLOURS, Scene, SceneObject, draw_scene, stream
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


Planes = NDArray[np.float32]

_PURPOSE = 0x7363656E6573  # keeps these hashes apart from those of other purposes
_NOISE_OFFSETS = 1 << 16
_COLOUR_JITTER = 12.0


def render(scene: Scene) -> NDArray[np.uint8]:
    """The image of `scene`: uint8 (image_size, image_size, 3) RGB."""
    draw = stream(scene.key, 1)
    size = scene.image_size
    tables = _tables(size)

    top, left = int(draw() * size), int(draw() * size)
    texture = tables.textures[scene.background.texture][top : top + size, left : left + size]
    strength = 5.0 + 11.0 * draw()
    tone = [level + 16.0 * (draw() - 0.5) for level in BACKGROUNDS[scene.background.tone]]
    planes = np.empty((3, size, size), dtype=np.float32)
    np.multiply(texture, np.float32(strength), out=planes[0])
    planes[1] = planes[2] = planes[0]
    planes += np.array(tone, dtype=np.float32)[:, None, None]

    for thing in scene.objects:
        jitter = [_COLOUR_JITTER * (2.0 * draw() - 1.0) for _ in range(3)]
        _paint(planes, thing, jitter, tables.centres)

    gain = 0.86 + 0.20 * draw()
    slope_x, slope_y = 0.16 * (draw() - 0.5), 0.16 * (draw() - 0.5)
    light_x = tables.ramp * np.float32(slope_x) + np.float32(gain)
    light_y = tables.ramp * np.float32(slope_y)
    planes *= light_x[None, :] + light_y[:, None]

    start = int(draw() * _NOISE_OFFSETS)
    noise = tables.noise[start : start + planes.size] * np.float32(1.5 + 6.0 * draw())
    planes += noise.reshape(planes.shape)
    np.clip(planes, 0.0, 255.0, out=planes)
    return np.ascontiguousarray(planes.astype(np.uint8).transpose(1, 2, 0))


def _paint(planes: Planes, thing: SceneObject, jitter: list[float], centres: Planes) -> None:
    """Lay one object over `planes`, touching only its own box."""
    size = planes.shape[1]
    x0, y0 = max(int(thing.box[0]) - 1, 0), max(int(thing.box[1]) - 1, 0)
    x1, y1 = min(math.ceil(thing.box[2]) + 1, size), min(math.ceil(thing.box[3]) + 1, size)
    x = centres[x0:x1] - np.float32(thing.centre[0])
    y = centres[y0:y1, None] - np.float32(thing.centre[1])
    cos, sin = np.float32(math.cos(thing.angle)), np.float32(math.sin(thing.angle))
    distance = DISTANCES[thing.shape](x * cos + y * sin, y * cos - x * sin, thing.radius)
    cover = np.clip(np.float32(0.5) - distance, 0.0, 1.0)
    patch = planes[:, y0:y1, x0:x1]
    colour = np.array(
        [level + shift for level, shift in zip(COLOURS[thing.colour], jitter, strict=True)],
        dtype=np.float32,
    )
    patch += cover * (colour[:, None, None] - patch)


@dataclass(frozen=True)
class _Tables:
    centres: Planes  # of pixels, (size,)
    ramp: Planes  # from -1 to 1, (size,)
    textures: dict[str, Planes]  # each (2 size, 2 size), within [-1, 1]
    noise: Planes  # standard normal, (offsets + 3 size size,)


@cache
def _tables(size: int) -> _Tables:
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    count = _NOISE_OFFSETS + 3 * size * size
    numbers = np.arange(count, dtype=np.uint64)
    length = np.sqrt(-2.0 * np.log1p(-uniforms(_PURPOSE, 0, numbers)))  # Box and Muller (1958)
    noise = length * np.cos(2 * math.pi * uniforms(_PURPOSE, 1, numbers))
    return _Tables(
        centres=centres,
        ramp=centres * np.float32(2.0 / size) - np.float32(1.0),
        textures={name: field.astype(np.float32) for name, field in _textures(size).items()},
        noise=noise.astype(np.float32),
    )


def _textures(size: int) -> dict[str, NDArray[np.float64]]:
    """Patterns whose period is a part of `size`, so that every cut-out looks alike in scale."""
    line = 2 * math.pi * (np.arange(2 * size) + 0.5) / size
    x, y = line[None, :], line[:, None]
    clouds = np.zeros((2 * size, 2 * size))
    for number in range(12):
        across, down, phase = uniforms(_PURPOSE, 2, number, np.arange(3, dtype=np.uint64))
        wave = round(6 * across - 3) * x + round(6 * down - 3) * y
        clouds += np.cos(wave + 2 * math.pi * phase)
    return {
        "plain": np.zeros((2 * size, 2 * size)),
        "fade": np.cos(y / 2) + 0.0 * x,
        "stripes": np.tanh(3.0 * np.sin(6.0 * x + 6.0 * y)),
        "checks": np.tanh(6.0 * np.sin(4.0 * x) * np.sin(4.0 * y)),
        "dots": np.tanh(6.0 * (np.sin(7.0 * x) * np.sin(7.0 * y) - 0.6)),
        "clouds": clouds / np.abs(clouds).max(),
    }
