"""What is random about a pair: functions of (seed, stream position), so nothing has to be kept.

A draw says which caption is shown, which region of the image, and whether it is mirrored; and
which items stand in where the one in order turns out to be broken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tijepa.data.batches.order import hash_words, uniforms
from tijepa.data.images import Crop, centre_crop, random_crop

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
