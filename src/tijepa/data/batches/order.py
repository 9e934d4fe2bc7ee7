"""The order of items: a function of (seed, epoch, position) in O(1) memory.

Stream position p belongs to epoch p // count. Each epoch is a permutation of [0, count): a keyed
Feistel network (Luby and Rackoff, 1988) over pairs (left, right) in Z_a x Z_b with a b >= count
and both near sqrt(count), and cycle walking (Black and Rogaway, 2002) for the few pairs beyond
count. So ten million rows cost no memory and any cursor is reached at once.

What is random about an item is a function of (seed, stream position) too: which caption is shown,
which region of the image, whether it is mirrored, and which items stand in where the one in order
turns out to be broken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tijepa.data.images import Crop, centre_crop, random_crop
from tijepa.errors import DataError

_ROUNDS = 8
_PURPOSE = 0x6F72646572  # keeps these hashes apart from those of other purposes
Words = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


class Order:
    """Shuffled endless stream of item indexes in [0, count)."""

    def __init__(self, count: int, seed: int) -> None:
        if count < 1:
            raise DataError("the source has no items: there is nothing to put in order")
        self._count = count
        self._seed = seed
        self._left = math.isqrt(count - 1) + 1  # a = ceil(sqrt(count))
        self._right = -(-count // self._left)  # b = ceil(count / a)

    def at(self, position: int, length: int) -> NDArray[np.int64]:
        """Item indexes of stream positions [position, position + length), across epochs."""
        positions = np.arange(position, position + length, dtype=np.uint64)
        epochs, offsets = np.divmod(positions, np.uint64(self._count))
        keys = [hash_words(_PURPOSE, self._seed, r, epochs) for r in range(_ROUNDS)]
        result = self._permute(offsets, keys)
        outside = np.flatnonzero(result >= self._count)
        while outside.size:
            result[outside] = self._permute(result[outside], [key[outside] for key in keys])
            outside = outside[result[outside] >= self._count]
        return result.astype(np.int64)

    def _permute(self, x: Words, keys: list[Words]) -> Words:
        """One pass of the network: a bijection of [0, a b)."""
        a, b = np.uint64(self._left), np.uint64(self._right)
        left, right = np.divmod(x, b)
        for number, key in enumerate(keys):
            if number % 2 == 0:
                left = (left + hash_words(key, right) % a) % a
            else:
                right = (right + hash_words(key, left) % b) % b
        return left * b + right


def hash_words(*words: int | Words) -> Words:
    """64 well-mixed bits for each row of `words`, which broadcast against each other.

    Random numbers by counter: a value depends on its words (seed, purpose, position) alone, so
    there is no state to save, and any position of a stream is reached at once. The mixing function
    is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    Numbers must lie in [0, 2^64). The result has at least one dimension. For fixed leading words
    it is injective in the last one.
    """
    state = np.zeros(1, dtype=np.uint64)
    for word in words:
        state = _mix(state ^ np.atleast_1d(np.asarray(word, dtype=np.uint64)))
    return state


def uniforms(*words: int | Words) -> NDArray[np.float64]:
    """Numbers in [0, 1), multiples of 2^-53, from `hash_words`."""
    return (hash_words(*words) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Words) -> Words:
    x = x + _STEP
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLY_1
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLY_2
    return x ^ (x >> np.uint64(31))


_ASPECT = 4 / 3  # crops are between 3:4 and 4:3, as in Inception (arXiv:1409.4842)
# what a random number is for; keeps the numbers of one position apart
_CAPTION, _AREA, _STRETCH, _X, _Y, _FLIP, _REPLACE = range(1, 8)


@dataclass(frozen=True)
class SampleRng:
    """The random numbers of one stream position, each in [0, 1)."""

    position: int
    caption: float
    area: float
    stretch: float
    x: float
    y: float
    flip: float

    def caption_of(self, captions: Sequence[str]) -> str | None:
        """One of `captions`; None where there is none."""
        number = self.caption_number(len(captions))
        return None if number is None else captions[number]

    def caption_number(self, count: int) -> int | None:
        """Which of `count` captions; None where there is none."""
        return int(self.caption * count) if count else None

    def crop_of(self, height: int, width: int, scale: tuple[float, float]) -> Crop:
        """The region shown of an image: of an area in `scale`, as a share of the largest square.

        With (1, 1) the largest centred square, otherwise anywhere in the image and of aspect
        between 3:4 and 4:3.
        """
        if scale[0] == 1.0:
            return centre_crop(height, width)
        return random_crop(
            height,
            width,
            area=self._area_in(scale),
            aspect=_ASPECT ** (2 * self.stretch - 1),
            x=self.x,
            y=self.y,
        )

    def needed_side(self, size: int, scale: tuple[float, float]) -> int:
        """How long an image's shorter side must be for the crop to hold size x size pixels."""
        return size if scale[0] == 1.0 else least_side(size, self._area_in(scale) / _ASPECT)

    def mirrored(self) -> bool:
        """Half of all draws."""
        return self.flip < 0.5

    def _area_in(self, scale: tuple[float, float]) -> float:
        return scale[0] + self.area * (scale[1] - scale[0])


def rngs_at(seed: int, start: int, count: int) -> list[SampleRng]:
    """Draws of the stream positions [start, start + count)."""
    positions = np.arange(start, start + count, dtype=np.uint64)
    purposes = (_CAPTION, _AREA, _STRETCH, _X, _Y, _FLIP)
    columns = [uniforms(seed, purpose, positions).tolist() for purpose in purposes]
    return [SampleRng(start + i, *row) for i, row in enumerate(zip(*columns, strict=True))]


def replacement(seed: int, position: int, attempt: int, count: int) -> int:
    """The item of `count` that is tried at `position` after `attempt` broken ones."""
    return int(hash_words(seed, _REPLACE, position, attempt)[0] % np.uint64(count))


def least_side(size: int, share: float) -> int:
    """Side of a square of which the share `share` is a square of side `size`."""
    return math.ceil(size / math.sqrt(share))
