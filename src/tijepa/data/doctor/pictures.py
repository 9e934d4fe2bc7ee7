"""Statistics of pictures: sizes, formats, modes."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from typing import Any

from tijepa.data.check import PictureFacts

__all__ = ["PictureStatistics"]

_EDGES = (0, 16, 32, 64, 96, 128, 160, 224, 256, 320, 384, 512, 768, 1024, 2048, 4096)


class PictureStatistics:
    """Counts pictures by shorter side, longer side, format and mode."""

    def __init__(self) -> None:
        self._shorter = [0] * len(_EDGES)
        self._longer = [0] * len(_EDGES)
        self._formats: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._smallest: tuple[int, int] | None = None
        self._largest: tuple[int, int] | None = None

    def add(self, facts: PictureFacts) -> None:
        """Note one picture."""
        size = (facts.width, facts.height)
        self._shorter[bisect_right(_EDGES, min(size)) - 1] += 1
        self._longer[bisect_right(_EDGES, max(size)) - 1] += 1
        self._formats[facts.format] += 1
        self._modes[facts.mode] += 1
        if size in self._sizes or len(self._sizes) < 10_000:
            self._sizes[size] += 1
        if self._smallest is None or min(size) < min(self._smallest):
            self._smallest = size
        if self._largest is None or size[0] * size[1] > self._largest[0] * self._largest[1]:
            self._largest = size

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; sides in pixels."""
        return {
            "pictures": sum(self._shorter),
            "shorter_side": _bars(self._shorter),
            "longer_side": _bars(self._longer),
            "formats": dict(self._formats.most_common()),
            "modes": dict(self._modes.most_common()),
            "smallest": self._smallest and list(self._smallest),
            "largest": self._largest and list(self._largest),
            "most_frequent_sizes": [
                {"width": w, "height": h, "count": n} for (w, h), n in self._sizes.most_common(5)
            ],
        }


def _bars(counts: list[int]) -> dict[str, int]:
    names = [f"{low}-{high - 1}" for low, high in pairwise(_EDGES)]
    names.append(f"{_EDGES[-1]}+")
    return {name: count for name, count in zip(names, counts, strict=True) if count}
