"""Folds and scores of classifiers: classes in equal shares, copies of an item never torn apart.

Pure functions of class numbers; folds and figures are scikit-learn's (extra `classify`). An
interval is the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13), drawn over groups where copies of an item stand together, because copies are no
independent evidence.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tijepa.errors import ConfigError, DataError, MissingExtraError

RESAMPLES = 2000
COVERAGE = 0.95


def scikit_learn(module: str) -> Any:
    """`sklearn.module`; `MissingExtraError` where scikit-learn is not installed."""
    try:
        return import_module(f"sklearn.{module}")
    except ImportError:
        raise MissingExtraError("scikit-learn", "classify") from None


def assign_folds(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    folds: int,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Int[Tensor, " n"]:
    """The fold of every item, 0 to folds - 1, drawn from `seed`.

    Classes are dealt evenly and groups stay whole; where no item has a copy, the folds' items of a
    class differ by at most 1. Raises `ConfigError` where `folds` is under 2 and `DataError` where a
    class stands in fewer groups than there are folds, or a group is larger than a fold; `names` of
    classes are for that.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}: it must be at least 2")
    largest = int(torch.unique(groups, return_counts=True)[1].max())
    if largest > max(1, len(labels) // folds):
        raise DataError(
            f"{largest} of {len(labels)} items are copies of each other, more than one of {folds}"
            " folds holds: take fewer folds, or count equal images alone as copies"
        )
    _check_classes(_groups_of_classes(labels, groups), folds, names)
    return _dealt(labels, groups, folds, seed)


def hold_out(
    labels: Int[Tensor, " n"],
    groups: Int[Tensor, " n"],
    share: float,
    seed: int,
    *,
    names: Sequence[str] = (),
) -> Bool[Tensor, " n"]:
    """True at items held out: about `share` (at most ½) of each class, at least one group.

    So of a class in few groups more than `share`, and of fold sizes that copies make unequal the
    smallest. Raises `ConfigError` for a share out of bounds, `DataError` where a class stands in
    one group only.
    """
    if not 0 < share <= 0.5:
        raise ConfigError(f"share is {share}: it must lie above 0 and be at most 0.5")
    present = _groups_of_classes(labels, groups)
    parts = max(2, min(round(1 / share), min(count for count in present if count)))
    _check_classes(present, parts, names)
    fold = _dealt(labels, groups, parts, seed)
    return fold == torch.bincount(fold, minlength=parts).argmin()


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


def _groups_of_classes(labels: Int[Tensor, " n"], groups: Int[Tensor, " n"]) -> list[int]:
    """In how many groups each class stands."""
    pairs = torch.unique(torch.stack([labels, groups]), dim=1)
    counts: list[int] = torch.bincount(pairs[0]).tolist()
    return counts


def _dealt(
    labels: Int[Tensor, " n"], groups: Int[Tensor, " n"], parts: int, seed: int
) -> Int[Tensor, " n"]:
    """The part of every item; with no copies by the faster of the two ways."""
    copies = len(torch.unique(groups)) < len(groups)
    folds = scikit_learn("model_selection")
    kind = folds.StratifiedGroupKFold if copies else folds.StratifiedKFold
    splitter = kind(parts, shuffle=True, random_state=seed)
    whole = groups.numpy() if copies else None
    found = torch.empty(len(labels), dtype=torch.long)
    for number, (_, held) in enumerate(splitter.split(labels, labels.numpy(), whole)):
        found[torch.from_numpy(held)] = number
    return found


def _check_classes(groups_of_classes: Sequence[int], parts: int, names: Sequence[str]) -> None:
    for number, present in enumerate(groups_of_classes):
        if 0 < present < parts:
            name = repr(names[number]) if names else number
            items = "1 item that is" if present == 1 else f"{present} items that are"
            raise DataError(
                f"class {name} has {items} no copy of another, and {parts} parts need one each:"
                " take fewer folds, or leave the class out"
            )


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """What `score` finds. `confusion[i, j]` counts items of class i that were taken for class j."""

    accuracy: Interval
    f1_weighted: Interval
    f1_macro: Interval
    confusion: Int[Tensor, "c c"]

    def to_dict(self, classes: list[str]) -> dict[str, Any]:
        """For JSON; `majority` is the accuracy of always naming the most frequent class."""
        hits, support = self.confusion.diagonal(), self.confusion.sum(dim=1)
        named = self.confusion.sum(dim=0)

        def share(k: int, of: Tensor) -> float:
            return float(hits[k].double() / of[k]) if of[k] else 0.0

        return {
            "items": int(support.sum()),
            "accuracy": asdict(self.accuracy),
            "f1_weighted": asdict(self.f1_weighted),
            "f1_macro": asdict(self.f1_macro),
            "majority": float(support.max() / support.sum()),
            "classes": {
                name: {
                    "precision": share(k, named),
                    "recall": share(k, support),
                    "f1": share(k, (named + support) / 2),
                    "items": int(support[k]),
                }
                for k, name in enumerate(classes)
            },
            "confusion": self.confusion.tolist(),
        }


def figures_of(confusion: Float[Tensor, "*r c c"]) -> Float[Tensor, "*r 3"]:
    """Accuracy, weighted F1 and macro F1 of confusion matrices, those of resamples among them.

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
    metrics = scikit_learn("metrics")
    confusion = torch.from_numpy(
        metrics.confusion_matrix(truth, predicted, labels=range(classes)).astype("int64")
    )
    own = [
        metrics.accuracy_score(truth, predicted),
        metrics.f1_score(truth, predicted, average="weighted", zero_division=0.0),
        metrics.f1_score(truth, predicted, average="macro", zero_division=0.0),
    ]
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
    truth: Tensor, predicted: Tensor, classes: int, groups: Tensor | None, resamples: int, seed: int
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
