"""How well classes were predicted: accuracy, F1, confusion, and intervals by bootstrap.

Pure functions of class numbers. An interval is the percentile bootstrap (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13), drawn over groups where copies of an item stand
together, because copies are no independent evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.errors import DataError

__all__ = ["Interval", "Scores", "confusion_matrix", "figures_of", "paired_gain", "score"]

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
