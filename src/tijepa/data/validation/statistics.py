"""Statistics in bounded memory: captions, images, labels and ids."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.validation.check import MAX_CAPTION
from tijepa.data.validation.image_check import ImageFacts
from tijepa.data.validation.near import repeated

_MOST_HASHES = 2**22  # caption hashes kept; beyond that a sample by hash, halved when full
_MOST_TEXTS = 40_000  # captions counted by their text
_SHOWN_TEXT = 300  # characters of a caption by which it is counted and shown
_SHOWN = 10
_MOST_PER_ITEM = 50
_EDGES = (0, 16, 32, 64, 96, 128, 160, 224, 256, 320, 384, 512, 768, 1024, 2048, 4096)
_MOST_VALUES = 50
_MOST_COLUMNS = 100
_LONGEST_VALUE = 60
_BLOCK = 16_384  # ids compressed together
_SEPARATOR = "\x1f"


class CaptionStatistics:
    """Collects captions item by item. Memory: at most about 100 MB, whatever their number."""

    def __init__(self, max_tokens: int | None) -> None:
        self._max_tokens = max_tokens
        self._per_item = [0] * (_MOST_PER_ITEM + 1)
        self._characters = [0] * (MAX_CAPTION + 1)
        self._words = [0] * (MAX_CAPTION // 2 + 2)
        self._hashes = array("Q")
        self._splits = array("H")
        self._coarseness = 1  # a hash is kept if it is a multiple of this
        self._texts: Counter[str] = Counter()
        self._texts_pruned = False
        self._count = 0

    def add(self, captions: Sequence[str], split: int) -> list[int]:
        """Note the captions of one item; returns a 64-bit hash of each."""
        self._per_item[min(len(captions), _MOST_PER_ITEM)] += 1
        hashes = []
        for caption in captions:
            self._count += 1
            self._characters[len(caption)] += 1
            self._words[len(caption.split())] += 1
            number = caption_hash(caption)
            hashes.append(number)
            if not number % self._coarseness:
                self._hashes.append(number)
                self._splits.append(split)
            self._texts[caption[:_SHOWN_TEXT]] += 1
        if len(self._hashes) > _MOST_HASHES:
            self._thin_out()
        if len(self._texts) > _MOST_TEXTS:
            self._texts = Counter(dict(self._texts.most_common(_MOST_TEXTS // 2)))
            self._texts_pruned = True
        return hashes

    def most_repeated(self) -> tuple[str, int] | None:
        """The text that a tenth of at least 50 captions are, and how often it stands."""
        top = self._texts.most_common(1)
        return top[0] if top and self._count >= 50 and top[0][1] * 10 > self._count else None

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        distinct, in_two_splits = self._distinct()
        repeated = [(text, n) for text, n in self._texts.most_common(_SHOWN) if n > 1]
        return {
            "captions": self._count,
            "per_item": {str(n): count for n, count in enumerate(self._per_item) if count},
            "words": percentiles(self._words),
            "characters": percentiles(self._characters),
            "cut": self._cuts(),
            "distinct": distinct,
            "distinct_share": distinct / self._count if self._count else None,
            "distinct_estimated": self._coarseness > 1,
            "in_two_splits": in_two_splits,
            "most_repeated": [{"caption": text, "count": n} for text, n in repeated],
            "most_repeated_at_least": self._texts_pruned,
        }

    def _cuts(self) -> dict[str, Any] | None:
        if self._max_tokens is None:
            return None
        # [CLS] takes one token and every word at least one, so this is a lower bound
        cut = sum(self._words[self._max_tokens :])
        return {"max_tokens": self._max_tokens, "captions": cut, "by": "words, at least"}

    def _thin_out(self) -> None:
        """Keep the hashes that are multiples of twice the number: half of them, on average."""
        self._coarseness *= 2
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        kept = hashes % np.uint64(self._coarseness) == 0
        splits = np.frombuffer(self._splits, dtype=np.uint16)
        self._hashes, self._splits = (
            array("Q", hashes[kept].tobytes()),
            array("H", splits[kept].tobytes()),
        )

    def _distinct(self) -> tuple[int, int]:
        """How many captions are distinct, and how many of these stand in two splits."""
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        splits = np.frombuffer(self._splits, dtype=np.uint16)
        order = np.lexsort((splits, hashes))
        hashes, splits = hashes[order], splits[order]
        distinct = len(np.unique(hashes))
        placed = splits > 0
        hashes, splits = hashes[placed], splits[placed]
        same = hashes[1:] == hashes[:-1]
        across = len(np.unique(hashes[1:][same & (splits[1:] != splits[:-1])]))
        return distinct * self._coarseness, across * self._coarseness


def caption_hash(caption: str) -> int:
    """64 bits of blake2b, by which equal captions are found."""
    digest = hashlib.blake2b(caption.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def percentiles(counts: Sequence[int]) -> dict[str, Any]:
    """Smallest, largest, mean, percentiles and a histogram of values by their counts."""
    table = np.asarray(counts, dtype=np.int64)
    total = int(table.sum())
    if not total:
        return {"count": 0}
    reached = np.cumsum(table)
    present = np.flatnonzero(table)
    marks = {
        f"p{p}": int(np.searchsorted(reached, max(1.0, total * p / 100))) for p in (5, 50, 95, 99)
    }
    width = max(1, -(-(marks["p99"] + 1) // 20))  # 20 bars up to the 99th percentile, then the rest
    edges = list(range(0, marks["p99"] + 1, width))
    bars = [int(table[edge : edge + width].sum()) for edge in edges]
    return {
        "count": total,
        "min": int(present[0]),
        **marks,
        "max": int(present[-1]),
        "mean": float((table * np.arange(len(table))).sum() / total),
        "histogram": {"width": width, "counts": bars, "above": total - sum(bars)},
    }


class ImageStatistics:
    """Counts images by shorter side, longer side, format and mode."""

    def __init__(self) -> None:
        self._shorter = [0] * len(_EDGES)
        self._longer = [0] * len(_EDGES)
        self._formats: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._smallest: tuple[int, int] | None = None
        self._largest: tuple[int, int] | None = None

    def add(self, facts: ImageFacts) -> None:
        """Note one image."""
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
            "images": sum(self._shorter),
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


class LabelStatistics:
    """Counts the values of every further column until it turns out to hold too many."""

    def __init__(self) -> None:
        self._columns: dict[str, Counter[str] | None] = {}

    def add(self, extra: Mapping[str, Any]) -> None:
        """Note the further columns of one item."""
        for name, value in extra.items():
            if name not in self._columns:
                if len(self._columns) >= _MOST_COLUMNS:
                    continue
                self._columns[name] = Counter()
            counts = self._columns[name]
            if counts is None:
                continue
            text = _as_label(value)
            if text is not None:
                counts[text] += 1
            if text is None or len(counts) > _MOST_VALUES:
                self._columns[name] = None

    def summary(self) -> dict[str, dict[str, int]]:
        """Counts by value of every column with 2 to 50 values, fewer than there are items."""
        return {
            str(name): dict(counts.most_common())
            for name, counts in self._columns.items()
            if counts is not None and 2 <= len(counts) < counts.total()
        }


def _as_label(value: Any) -> str | None:
    """The value as text, or None if it is nothing that a label could be."""
    if value is None:
        return "(none)"
    if isinstance(value, (bool, int)):
        return str(value) if -(10**18) < value < 10**18 else None
    if isinstance(value, str) and len(value) <= _LONGEST_VALUE:
        return value
    return None


class IdBook:
    """Ids by row number. Held: their deflated text, about a third of its length, and a hash."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[str] = []
        self._hashes = array("q")

    def __len__(self) -> int:
        return len(self._blocks) * _BLOCK + len(self._open)

    def append(self, item: str) -> None:
        """Note the id of the next row; a separator inside it is shown as a blank."""
        self._hashes.append(hash(item))
        self._open.append(item.replace(_SEPARATOR, " "))
        if len(self._open) == _BLOCK:
            text = _SEPARATOR.join(self._open).encode("utf-8", "surrogatepass")
            self._blocks.append(zlib.compress(text, 1))
            self._open = []

    def repeated(self) -> NDArray[np.int64]:
        """The rows whose id stands more than once, by 64 bits of hash."""
        return repeated(np.frombuffer(self._hashes, dtype=np.int64))

    def look_up(self, rows: Iterable[int]) -> dict[int, str]:
        """The ids of `rows`; every block is opened at most once."""
        found: dict[int, str] = {}
        number, block = -1, list[str]()
        for row in sorted({int(row) for row in rows}):
            if row // _BLOCK != number:
                number = row // _BLOCK
                block = self._block(number)
            found[row] = block[row % _BLOCK]
        return found

    def _block(self, number: int) -> list[str]:
        if number == len(self._blocks):
            return self._open
        text = zlib.decompress(self._blocks[number]).decode("utf-8", "surrogatepass")
        return text.split(_SEPARATOR)
