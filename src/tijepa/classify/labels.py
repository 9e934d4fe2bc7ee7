"""Labelled items of a pair store: which items, which labels, which are copies of each other.

An item's label is its value in one further column of the store: a text, a whole number or a truth
value. What stands in a list is ambiguous (rows of one image that disagree) and counts as no
label. To classify pairs an item needs an image and a text, to classify images or texts the one;
items that lack it are left out, and counted. Of several captions the first is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from tijepa.data.pairs import PairSplits
from tijepa.data.store.source import StoreSource
from tijepa.errors import DataError
from tijepa.evaluate.scores import join_groups

Side = Literal["image", "text", "pair"]

_AT_ONCE = 4096  # rows read together
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Items:
    """Items of one split that have what is needed, in order.

    `left_out` counts the others by reason. `group` is equal for copies: items with the same
    image, byte for byte, or the same text but for case and white space.
    """

    source: StoreSource
    split: str
    rows: list[int]
    ids: list[str]
    labels: list[str | None]
    group: Int[Tensor, " n"]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: Sequence[bool]) -> Items:
        """The items at which `keep` is true; the others are not counted as left out."""
        chosen = [k for k, kept in enumerate(keep) if kept]
        return Items(
            source=self.source,
            split=self.split,
            rows=[self.rows[k] for k in chosen],
            ids=[self.ids[k] for k in chosen],
            labels=[self.labels[k] for k in chosen],
            group=self.group[torch.tensor(chosen, dtype=torch.long)],
            left_out=self.left_out,
        )

    @property
    def labelled(self) -> Items:
        """Those with a label."""
        return self.where([label is not None for label in self.labels])

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted; `DataError` where they make no classes."""
        counts = Counter(label for label in self.labels if label is not None)
        if len(counts) < 2:
            raise DataError(
                f"split '{self.split}' has {len(counts)} different labels: at least 2 are needed"
            )
        if len(counts) > min(_MOST_CLASSES, max(2, sum(counts.values()) // 2)):
            raise DataError(
                f"the labels of {sum(counts.values())} items have {len(counts)} different values:"
                f" at most {_MOST_CLASSES}, and 2 items of each, can be classes; choose another"
                " `label`"
            )
        return sorted(counts)

    def numbers(self, classes: Sequence[str]) -> Int[Tensor, " n"]:
        """The labels as places in `classes`; `DataError` for one that stands not there."""
        place = {name: k for k, name in enumerate(classes)}
        for label in self.labels:
            if label is not None and label not in place:
                raise DataError(
                    f"label '{label}' of split '{self.split}' is none of the classifier's classes"
                    f" ({', '.join(classes[:10])}): mend the label"
                )
        return torch.tensor([place[x] if x is not None else -1 for x in self.labels])


def read_items(
    splits: PairSplits, split: str, label: str, side: Side, *, same_text: bool = True
) -> Items:
    """The items of a split that have what `side` needs, with their labels where they have one.

    Without `same_text` only equal images make copies. Raises `DataError` where the data is no
    store, the split or the column is unknown, or a value cannot be a label.
    """
    source = splits.split(split)
    if not isinstance(source, StoreSource):
        raise DataError(f"{splits.description} has no label columns: give a pair store")
    if label not in source.columns:
        known = ", ".join(source.columns) or "none at all"
        raise DataError(
            f"column '{label}' is unknown in {splits.description}; further columns: {known}"
        )
    left_out: Counter[str] = Counter()
    rows: list[int] = []
    ids: list[str] = []
    labels: list[str | None] = []
    images: list[str | None] = []
    texts: list[str | None] = []
    for start in range(0, len(source), _AT_ONCE):
        indexes = range(start, min(start + _AT_ONCE, len(source)))
        facts = source.facts(indexes)
        values = source.extra(label, indexes)
        for row, fact, value in zip(indexes, facts, values, strict=True):
            if not fact.has_image and side != "text":
                left_out["no image"] += 1
            elif not fact.captions and side != "image":
                left_out["no text"] += 1
            else:
                rows.append(row)
                ids.append(fact.id)
                labels.append(_label(value, label, fact.id))
                images.append(fact.content_hash if fact.has_image else None)
                texts.append(" ".join(fact.captions[0].casefold().split()) if fact.captions else "")
    keys = [images, texts] if same_text and side != "image" else [images]
    return Items(source, split, rows, ids, labels, join_groups(*keys), dict(left_out))


def _label(value: object, column: str, item: str) -> str | None:
    if value is None or isinstance(value, list):
        return None
    if isinstance(value, (str, bool, int)):
        return str(value).strip() or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise DataError(
        f"item {item} has {value!r} in column '{column}', which is no label: classes are texts,"
        " whole numbers or truth values"
    )
