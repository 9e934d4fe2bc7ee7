"""What stands more than once: items, pictures in one or two splits, pictures that look alike.

Kept for each item: 16 bytes of content hash, 8 of captions hash, 8 of dHash, 2 of split, 1 flag.
At 10 million items that is 350 MB, and finding the groups takes up to 400 MB more for a while.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tijepa.data.check import Sound
from tijepa.data.doctor.groups import Groups, equal_rows, numbered
from tijepa.data.doctor.near import is_plain, near_components

__all__ = ["Duplicates", "Fingerprints"]

_KEEP_FIRST = ("test", "validation")  # held-out items stay, copies in training go


@dataclass(frozen=True)
class Duplicates:
    """Groups of row numbers by kind, and the rows that go where duplicates are set aside.

    `redundant` holds all but the first of equal items of a split, and of every picture that stands
    in two splits its copies outside the one to keep: test before validation before others before
    train. `plain` counts pictures too plain to be compared by look.
    """

    groups: dict[str, Groups]
    redundant: NDArray[np.int64]
    plain: int


class Fingerprints:
    """Fixed-size traces of all items, in order, by which duplicates are found."""

    def __init__(self) -> None:
        self._high = array("Q")
        self._low = array("Q")
        self._texts = array("Q")
        self._look = array("Q")
        self._split = array("H")
        self._has_picture = array("B")

    def __len__(self) -> int:
        return len(self._high)

    def append(self, sound: Sound, split: int, caption_hashes: Sequence[int]) -> None:
        """Note one item; `split` is the number of its split, 0 if it has none."""
        self._high.append(int(sound.content_hash[:16], 16))
        self._low.append(int(sound.content_hash[16:], 16))
        self._texts.append(hash(tuple(caption_hashes)) & 0xFFFFFFFFFFFFFFFF)
        self._look.append(0 if sound.picture is None else sound.picture.difference_hash)
        self._split.append(split)
        self._has_picture.append(sound.picture is not None)

    def split_of(self, row: int) -> int:
        """The number of the split of item `row`."""
        return self._split[row]

    def duplicates(self, split_names: Sequence[str]) -> Duplicates:
        """Find everything; `split_names` by number."""
        split = np.frombuffer(self._split, dtype=np.uint16).astype(np.int64)
        has_picture = np.frombuffer(self._has_picture, dtype=np.bool_)
        content = numbered(
            np.frombuffer(self._high, dtype=np.uint64), np.frombuffer(self._low, dtype=np.uint64)
        )
        texts = np.frombuffer(self._texts, dtype=np.uint64)
        everything = np.arange(len(self), dtype=np.int64)
        pictures = np.flatnonzero(has_picture)
        placed = pictures[split[pictures] > 0]

        item = numbered(content, texts, split)
        place = numbered(content, split)
        groups = {
            "duplicate-item": equal_rows(everything, item),
            "duplicate-picture": equal_rows(pictures, place, differing_in=item),
            "picture-in-two-splits": equal_rows(placed, content, differing_in=split),
        }
        redundant = np.zeros(len(self), dtype=np.bool_)
        _mark_later(redundant, groups["duplicate-item"], item)
        _mark_outside(redundant, groups["picture-in-two-splits"], content, split, split_names)
        del item, place

        look, plain = self._looks(pictures)
        alike = np.flatnonzero(look >= 0)
        groups["near-duplicate"] = equal_rows(alike, look, differing_in=content)
        across = groups["near-duplicate"].rows
        across = equal_rows(np.sort(across[split[across] > 0]), look, differing_in=split).rows
        groups["near-in-two-splits"] = equal_rows(np.sort(across), look, differing_in=content)
        return Duplicates(groups, np.flatnonzero(redundant), plain)

    def _looks(self, pictures: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """For each row the number of its set of similar pictures, -1 where there is no say."""
        hashes = np.frombuffer(self._look, dtype=np.uint64)[pictures]
        telling = ~is_plain(hashes)
        distinct, number = np.unique(hashes[telling], return_inverse=True)
        look = np.full(len(self), -1, dtype=np.int64)
        look[pictures[telling]] = near_components(distinct)[number]
        return look, int(len(pictures) - telling.sum())


def _mark_later(redundant: NDArray[np.bool_], groups: Groups, key: NDArray[np.int64]) -> None:
    """Mark all rows of each group but the first; groups lie one after the other in `rows`."""
    values = key[groups.rows]
    later = np.flatnonzero(values[1:] == values[:-1]) + 1
    redundant[groups.rows[later]] = True


def _mark_outside(
    redundant: NDArray[np.bool_],
    groups: Groups,
    key: NDArray[np.int64],
    split: NDArray[np.int64],
    split_names: Sequence[str],
) -> None:
    """Mark the rows of each group that stand outside the split to keep."""
    if not len(groups):
        return
    order = sorted(range(len(split_names)), key=lambda code: (_rank(split_names[code]), code))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    values, ranks = key[groups.rows], rank[split[groups.rows]]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    best = np.minimum.reduceat(ranks, starts)
    kept = np.repeat(best, np.diff(np.append(starts, len(values))))
    redundant[groups.rows[ranks != kept]] = True


def _rank(name: str) -> int:
    if name in _KEEP_FIRST:
        return _KEEP_FIRST.index(name)
    return len(_KEEP_FIRST) + (name == "train")
