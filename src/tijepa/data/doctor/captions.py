"""Statistics of captions in bounded memory: lengths, repetitions, languages."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tijepa.data.check import MAX_CAPTION
from tijepa.data.doctor.language import guess_language

__all__ = ["CaptionStatistics", "percentiles"]

_MOST_HASHES = 2**22  # caption hashes kept; beyond that a sample by hash, halved when full
_MOST_TEXTS = 40_000  # captions counted by their text
_SHOWN_TEXT = 300  # characters of a caption by which it is counted and shown
_SHOWN = 10
_LANGUAGE_ALL, _LANGUAGE_EVERY = 5_000, 50  # captions whose language is guessed
_MOST_PER_ITEM = 50


class CaptionStatistics:
    """Collects captions item by item. Memory: at most about 100 MB, whatever their number."""

    def __init__(self, max_tokens: int | None, would_cut: Callable[[str, int], bool] | None):
        self._max_tokens = max_tokens
        self._would_cut = would_cut
        self._per_item = [0] * (_MOST_PER_ITEM + 1)
        self._characters = [0] * (MAX_CAPTION + 1)
        self._words = [0] * (MAX_CAPTION // 2 + 2)
        self._cut = 0
        self._hashes = array("Q")
        self._splits = array("H")
        self._coarseness = 1  # a hash is kept if it is a multiple of this
        self._texts: Counter[str] = Counter()
        self._texts_pruned = False
        self._languages: Counter[str] = Counter()
        self._count = 0

    def add(self, captions: Sequence[str], split: int) -> list[int]:
        """Note the captions of one item; returns a 64-bit hash of each."""
        self._per_item[min(len(captions), _MOST_PER_ITEM)] += 1
        hashes = []
        for caption in captions:
            self._count += 1
            self._characters[len(caption)] += 1
            self._words[len(caption.split())] += 1
            if self._would_cut is not None and self._max_tokens is not None:
                self._cut += self._would_cut(caption, self._max_tokens)
            number = caption_hash(caption)
            hashes.append(number)
            if not number % self._coarseness:
                self._hashes.append(number)
                self._splits.append(split)
            self._texts[caption[:_SHOWN_TEXT]] += 1
            if self._count <= _LANGUAGE_ALL or not self._count % _LANGUAGE_EVERY:
                self._languages[guess_language(caption)] += 1
        if len(self._hashes) > _MOST_HASHES:
            self._thin_out()
        if len(self._texts) > _MOST_TEXTS:
            self._texts = Counter(dict(self._texts.most_common(_MOST_TEXTS // 2)))
            self._texts_pruned = True
        return hashes

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        distinct, in_two_splits = self._distinct()
        repeated = [(text, n) for text, n in self._texts.most_common(_SHOWN) if n > 1]
        guessed = self._languages.total()
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
            "language_guess": {
                name: count / guessed for name, count in self._languages.most_common(_SHOWN)
            },
            "language_guessed_from": guessed,
        }

    def _cuts(self) -> dict[str, Any] | None:
        if self._max_tokens is None:
            return None
        if self._would_cut is not None:
            return {"max_tokens": self._max_tokens, "captions": self._cut, "by": "tokenizer"}
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
