"""Zero-shot classification: does the lowest energy among the labels' prompts name the label?

Pure functions of energies. What a model leaves undecided counts against it: labels of equal energy
push the own label down, and so does an energy that is not a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["LabelScore", "ZeroShot", "zero_shot"]

_TOP = 5


@dataclass(frozen=True)
class LabelScore:
    """One label: its items, the share that is right, and what it is most often taken for."""

    label: str
    items: int
    top_1: float | None  # None without items
    taken_for: str | None  # None where nothing is wrong


@dataclass(frozen=True)
class ZeroShot:
    """Shares of the items whose label has the lowest energy, or one of the five lowest.

    `top_5` is None where there are five labels or fewer. `chance` is that of a uniform guess at
    top 1; `majority` is the share of the most frequent label, which guessing it always reaches;
    `mean_per_label` weighs each label alike, whatever its number of items.
    """

    top_1: float
    top_5: float | None
    mean_per_label: float
    chance: float
    majority: float
    items: int
    labels: tuple[LabelScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.__dict__, "labels": [dict(label.__dict__) for label in self.labels]}


def zero_shot(
    energy: Float[Tensor, "i l"], label: Int[Tensor, " i"], names: Sequence[str]
) -> ZeroShot:
    """Score i images, whose right label is column `label[k]`, among l labels called `names`."""
    items, labels = energy.shape
    assert items > 0
    assert labels == len(names), (labels, len(names))
    own = energy.gather(1, label[:, None])
    rank = (~(energy > own)).sum(dim=1)  # 1 is best; its own label supplies the 1
    right = rank == 1
    guess = energy.nan_to_num(nan=torch.inf).argmin(dim=1)
    scores = tuple(_score(k, names, label, right, guess) for k in range(labels))
    known = [score.top_1 for score in scores if score.top_1 is not None]
    return ZeroShot(
        top_1=_share(right),
        top_5=_share(rank <= _TOP) if labels > _TOP else None,
        mean_per_label=sum(known) / len(known),
        chance=1 / labels,
        majority=max(score.items for score in scores) / items,
        items=items,
        labels=scores,
    )


def _score(k: int, names: Sequence[str], label: Tensor, right: Tensor, guess: Tensor) -> LabelScore:
    mine = label == k
    wrong = Counter(guess[mine & ~right & (guess != k)].tolist())
    return LabelScore(
        label=names[k],
        items=int(mine.sum()),
        top_1=_share(right[mine]) if bool(mine.any()) else None,
        taken_for=names[wrong.most_common(1)[0][0]] if wrong else None,
    )


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
