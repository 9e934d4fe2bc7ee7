"""Folds for cross-validation: classes in equal shares, copies of an item never on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.errors import ConfigError, DataError

__all__ = [
    "Interval",
    "Scores",
    "assign_folds",
    "confusion_matrix",
    "figures_of",
    "hold_out",
    "join_groups",
    "paired_gain",
    "score",
]


def assign_folds(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    folds: int,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Int[Tensor, " n"]:
    """The fold of every item, 0 to folds - 1.

    Groups, the largest first and those of one size in an order drawn from `seed`, go one by one to
    the fold that has the fewest items of the group's commonest class, among equals to the one with
    the fewest items. So where no item has a copy, the folds' items of a class differ by at most 1.
    Raises `ConfigError` where `folds` is under 2 and `DataError` where a class stands in fewer
    groups than there are folds, or a group is larger than a fold; `names` of classes are for that.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}: it must be at least 2")
    table, group = _table(labels, groups)
    _check(table, len(labels), folds, names)
    return _assigned(table, folds, seed)[group]


def hold_out(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    share: float,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Bool[Tensor, " n"]:
    """True at items held out: about `share` (at most ½) of each class, at least one group.

    So of a class in few groups more than `share`. Raises `ConfigError` for a share out of bounds,
    `DataError` where a class stands in one group only.
    """
    if not 0 < share <= 0.5:
        raise ConfigError(f"share is {share}: it must lie above 0 and be at most 0.5")
    table, group = _table(labels, groups)
    present = (table > 0).sum(dim=0)
    parts = max(2, min(round(1 / share), int(present[present > 0].min())))
    _check_classes(table, parts, names)
    return _assigned(table, parts, seed)[group] == parts - 1  # the largest groups stay in part 0


def join_groups(*keys: Sequence[Hashable | None]) -> Int[Tensor, " n"]:
    """Group numbers of items that agree in any of their keys, directly or through others.

    None is no key: it agrees with nothing.
    """
    count = len(keys[0])
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for column in keys:
        first: dict[Hashable, int] = {}
        for item, key in enumerate(column):
            if key is not None:
                a, b = root(first.setdefault(key, item)), root(item)
                parent[max(a, b)] = min(a, b)
    return torch.tensor([root(item) for item in range(count)], dtype=torch.long)


def _table(
    labels: Int[Tensor, " n"], groups: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "g c"], Int[Tensor, " n"]]:
    """Items by group and class, and the row of each item's group."""
    _, group = torch.unique(groups, return_inverse=True)
    count, classes = int(group.max()) + 1, int(labels.max()) + 1
    table = torch.bincount(group * classes + labels, minlength=count * classes)
    return table.reshape(count, classes), group


def _assigned(table: Int[Tensor, "g c"], folds: int, seed: int) -> Int[Tensor, " g"]:
    """The fold of every group, as `assign_folds` says."""
    count, classes = table.shape
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = drawn[torch.argsort(table.sum(dim=1)[drawn], descending=True, stable=True)]
    main: list[int] = table.argmax(dim=1).tolist()
    rows: list[list[int]] = table.tolist()
    held = [[0] * classes for _ in range(folds)]  # items by fold and class
    sizes = [0] * folds
    fold_of_group = [0] * count
    for g in order.tolist():
        same = [held[f][main[g]] for f in range(folds)]
        fold = min(zip(same, sizes, range(folds), strict=True))[2]
        held[fold] = [a + b for a, b in zip(held[fold], rows[g], strict=True)]
        sizes[fold] += sum(rows[g])
        fold_of_group[g] = fold
    return torch.tensor(fold_of_group)


def _check(table: Int[Tensor, "g c"], items: int, folds: int, names: Sequence[str]) -> None:
    largest = int(table.sum(dim=1).max())
    if largest > max(1, items // folds):
        raise DataError(
            f"{largest} of {items} items are copies of each other, more than one of {folds} folds"
            " holds: take fewer folds, or count equal images alone as copies"
        )
    _check_classes(table, folds, names)


def _check_classes(table: Int[Tensor, "g c"], parts: int, names: Sequence[str]) -> None:
    for number, present in enumerate((table > 0).sum(dim=0).tolist()):
        if 0 < present < parts:
            name = repr(names[number]) if names else number
            items = "1 item that is" if present == 1 else f"{present} items that are"
            raise DataError(
                f"class {name} has {items} no copy of another, and {parts} parts need one each:"
                " take fewer folds, or leave the class out"
            )


# How well classes were predicted: accuracy, F1, confusion, and intervals by bootstrap.
#
# Pure functions of class numbers. An interval is the percentile bootstrap (Efron and Tibshirani, An
# Introduction to the Bootstrap, 1993, chapter 13), drawn over groups where copies of an item stand
# together, because copies are no independent evidence.


RESAMPLES = 2000
COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Scores:
    """What `score` finds. `confusion[i, j]` counts items of class i that were taken for class j."""

    accuracy: Interval
    f1_weighted: Interval
    f1_macro: Interval
    confusion: Int[Tensor, "c c"]

    def to_dict(self, classes: list[str]) -> dict[str, Any]:
        """For JSON; `majority` is the accuracy of always naming the most frequent class."""
        per_class = _class_figures(self.confusion.double())
        support = self.confusion.sum(dim=1)
        return {
            "items": int(support.sum()),
            "accuracy": self.accuracy.to_dict(),
            "f1_weighted": self.f1_weighted.to_dict(),
            "f1_macro": self.f1_macro.to_dict(),
            "majority": float(support.max() / support.sum()),
            "classes": {
                name: {
                    "precision": float(per_class[0, k]),
                    "recall": float(per_class[1, k]),
                    "f1": float(per_class[2, k]),
                    "items": int(support[k]),
                }
                for k, name in enumerate(classes)
            },
            "confusion": self.confusion.tolist(),
        }


def confusion_matrix(
    truth: Int[Tensor, " n"], predicted: Int[Tensor, " n"], classes: int
) -> Int[Tensor, "c c"]:
    """Counts, true class by row, predicted class by column."""
    cells = truth * classes + predicted
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def figures_of(confusion: Float[Tensor, "*r c c"]) -> Float[Tensor, "*r 3"]:
    """Accuracy, weighted F1 and macro F1 of confusion matrices.

    F1 = 2 TP / (2 TP + FP + FN). Weighted F1 weights a class by its true items; macro F1 is the
    plain mean over the classes that occur, as truth or as prediction.
    """
    total = confusion.sum(dim=(-2, -1))
    hits = confusion.diagonal(dim1=-2, dim2=-1)
    true, named = confusion.sum(dim=-1), confusion.sum(dim=-2)
    f1 = 2 * hits / (true + named).clamp(min=torch.finfo(confusion.dtype).tiny)
    occurs = (true + named > 0).to(confusion.dtype)
    accuracy = hits.sum(dim=-1) / total
    weighted = (f1 * true).sum(dim=-1) / total
    macro = (f1 * occurs).sum(dim=-1) / occurs.sum(dim=-1)
    return torch.stack([accuracy, weighted, macro], dim=-1)


def score(
    truth: Int[Tensor, " n"],
    predicted: Int[Tensor, " n"],
    classes: int,
    *,
    groups: Int[Tensor, " n"] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Scores of `predicted` with 95 % intervals; items of one group are drawn together.

    Without `groups` every item is a group. Raises `DataError` where there is no item.
    """
    if len(truth) == 0:
        raise DataError("0 items have a label: give a split with labels")
    confusion = confusion_matrix(truth, predicted, classes)
    own = figures_of(confusion.double())
    bounds = _bounds(_resampled(truth, predicted, classes, groups, resamples, seed))
    accuracy, weighted, macro = (
        Interval(float(own[k]), float(bounds[0, k]), float(bounds[1, k])) for k in range(3)
    )
    return Scores(accuracy, weighted, macro, confusion)


def paired_gain(
    truth: Int[Tensor, " n"],
    ours: Int[Tensor, " n"],
    theirs: Int[Tensor, " n"],
    *,
    groups: Int[Tensor, " n"] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Accuracy of `ours` minus that of `theirs` on the same items, drawn together."""
    classes = int(torch.cat([truth, ours, theirs]).max()) + 1
    both = [
        _resampled(truth, named, classes, groups, resamples, seed)[:, :1]
        for named in (ours, theirs)
    ]
    low, high = _bounds(both[0] - both[1])[:, 0].tolist()
    gain = (ours == truth).double().mean() - (theirs == truth).double().mean()
    return Interval(float(gain), low, high)


def _resampled(
    truth: Tensor,
    predicted: Tensor,
    classes: int,
    groups: Tensor | None,
    resamples: int,
    seed: int,
) -> Float[Tensor, "r 3"]:
    """Figures of resamples; the draws are equal for equal seed, groups and number of items."""
    group = torch.arange(len(truth))
    if groups is not None:
        _, group = torch.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    cells = truth * classes + predicted
    generator = torch.Generator().manual_seed(seed)
    figures = torch.empty(resamples, 3, dtype=torch.float64)
    for k in range(resamples):
        drawn = torch.randint(count, (count,), generator=generator)
        times = torch.bincount(drawn, minlength=count).double()
        sums = torch.bincount(cells, weights=times[group], minlength=classes * classes)
        figures[k] = figures_of(sums.reshape(classes, classes))
    return figures


def _bounds(drawn: Float[Tensor, "r k"]) -> Float[Tensor, "2 k"]:
    tail = (1 - COVERAGE) / 2
    return torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=drawn.dtype), dim=0)


def _class_figures(confusion: Float[Tensor, "c c"]) -> Float[Tensor, "3 c"]:
    """Precision, recall and F1 of each class; 0 where a class was never named or never true."""
    hits, true, named = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
    parts = (hits / named, hits / true, 2 * hits / (true + named))
    return torch.stack(parts).nan_to_num(0.0)
