"""What stands more than once: items, images in one or two splits, images that look alike.

Kept for each item: 16 bytes of content hash, 8 of captions hash, 8 of dHash, 2 of split, 1 flag.
At 10 million items that is 350 MB. Finding the groups takes up to 500 MB more for a while where few
items are copies, measured with 10 million random hashes, and 1.3 GB where nine in ten are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tijepa.data.validation.near import (
    Groups,
    Rows,
    equal_rows,
    is_plain,
    near_components,
    numbered,
    repeated,
)

_PART = 2**20  # rows
_KEEP_FIRST = ("test", "validation")  # held-out items stay, copies in training go


@dataclass(frozen=True)
class Duplicates:
    """Groups of row numbers by kind, and the rows that go where duplicates are skipped.

    `redundant` holds all but the first of equal items of a split, and of every image that stands
    in two splits its copies outside the one to keep: test before validation before others before
    train. `plain` counts images too plain to be compared by look.
    """

    groups: dict[str, Groups]
    redundant: NDArray[np.int64]
    plain: int


@dataclass(frozen=True)
class Known:
    """An item that stands in a store already; `look` is the dHash of its image, if it has one."""

    id: str
    split: str
    captions: Sequence[str]
    content_hash: str
    look: int | None


class Fingerprints:
    """Fixed-size traces of all items, in order, by which duplicates are found."""

    def __init__(self) -> None:
        self._high = array("Q")
        self._low = array("Q")
        self._texts = array("Q")
        self._look = array("Q")
        self._split = array("H")
        self._has_image = array("B")
        self._since = 0  # the first row that is not of the store

    def __len__(self) -> int:
        return len(self._high)

    def append(
        self, content_hash: str, look: int | None, split: int, caption_hashes: Sequence[int]
    ) -> None:
        """Note one item; `look` is None without an image, `split` the split's number or 0."""
        self._high.append(int(content_hash[:16], 16))
        self._low.append(int(content_hash[16:], 16))
        self._texts.append(hash(tuple(caption_hashes)) & 0xFFFFFFFFFFFFFFFF)
        self._look.append(0 if look is None else look)
        self._split.append(split)
        self._has_image.append(look is not None)

    def end_of_known(self) -> None:
        """Of the groups found, only those with an item noted after this call are of interest."""
        self._since = len(self)

    def split_of(self, row: int) -> int:
        """The number of the split of item `row`."""
        return self._split[row]

    def duplicates(self, split_names: Sequence[str]) -> Duplicates:
        """Find everything; `split_names` by number."""
        groups, redundant = self._copies(split_names)
        near, plain = self._look_alikes()
        return Duplicates(groups | near, redundant, plain)

    def _copies(self, split_names: Sequence[str]) -> tuple[dict[str, Groups], Rows]:
        """What is equal byte for byte, and which rows are redundant for it."""
        rows = repeated(np.frombuffer(self._high, dtype=np.uint64))
        content, split = self._content(rows), self._splits(rows)
        has_image = np.frombuffer(self._has_image, dtype=np.bool_)[rows]
        item = numbered(content, np.frombuffer(self._texts, dtype=np.uint64)[rows], split)
        place = numbered(content, split)
        everything, since = np.arange(len(rows)), int(np.searchsorted(rows, self._since))
        groups = {
            "duplicate-item": equal_rows(everything, item),
            "duplicate-image": equal_rows(everything[has_image], place, differing_in=item),
            "image-in-two-splits": equal_rows(
                everything[has_image & (split > 0)], content, differing_in=split
            ),
        }
        groups = {kind: found.reaching(since) for kind, found in groups.items()}
        redundant = np.zeros(len(rows), dtype=np.bool_)
        _mark_later(redundant, groups["duplicate-item"], item)
        _mark_outside(redundant, groups["image-in-two-splits"], content, split, split_names)
        return {kind: found.at(rows) for kind, found in groups.items()}, rows[redundant]

    def _look_alikes(self) -> tuple[dict[str, Groups], int]:
        """Different images of nearly one look, and how many are too plain to tell."""
        rows, look, plain = self._looks()
        content, split = self._content(rows), self._splits(rows)
        anywhere = equal_rows(np.arange(len(rows)), look, differing_in=content)
        placed = np.sort(anywhere.rows[split[anywhere.rows] > 0])
        across = np.sort(equal_rows(placed, look, differing_in=split).rows)
        groups = {
            "near-duplicate": anywhere,
            "near-in-two-splits": equal_rows(across, look, differing_in=content),
        }
        groups = {kind: found.at(rows).reaching(self._since) for kind, found in groups.items()}
        return groups, plain

    def _looks(self) -> tuple[Rows, NDArray[np.int64], int]:
        """Rows whose look is not theirs alone, for each the number of the look; the plain ones."""
        hashes = np.frombuffer(self._look, dtype=np.uint64)
        has_image = np.frombuffer(self._has_image, dtype=np.bool_)
        telling = np.zeros(len(hashes), dtype=np.bool_)
        for part in self._parts():
            telling[part] = has_image[part] & ~is_plain(hashes[part])
        new = slice(self._since, None)
        plain = int(has_image[new].sum() - telling[new].sum())
        distinct = np.sort(hashes[telling])
        distinct = distinct[
            np.concatenate(([True], distinct[1:] != distinct[:-1]))[: len(distinct)]
        ]
        component = near_components(distinct)
        linked = np.bincount(component, minlength=len(distinct))[component] > 1
        alone = np.ones(len(hashes), dtype=np.bool_)
        alone[repeated(hashes)] = False
        found, looks = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for part in self._parts():
            candidates = part.start + np.flatnonzero(telling[part])
            places = np.searchsorted(distinct, hashes[candidates])
            kept = linked[places] | ~alone[candidates]
            found.append(candidates[kept])
            looks.append(component[places[kept]])
        return np.concatenate(found), np.concatenate(looks), plain

    def _parts(self) -> Iterator[slice]:
        """All rows in pieces, so that what is computed of each stays small."""
        for start in range(0, len(self), _PART):
            yield slice(start, start + _PART)

    def _content(self, rows: Rows) -> NDArray[np.int64]:
        high = np.frombuffer(self._high, dtype=np.uint64)[rows]
        return numbered(high, np.frombuffer(self._low, dtype=np.uint64)[rows])

    def _splits(self, rows: Rows) -> NDArray[np.int64]:
        return np.frombuffer(self._split, dtype=np.uint16)[rows].astype(np.int64)


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
