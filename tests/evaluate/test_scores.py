from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tijepa.errors import DataError, MissingExtraError
from tijepa.evaluate.scores import figures_of, paired_gain, score

TRUTH = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
NAMED = torch.tensor([0, 0, 0, 1, 1, 0, 2, 1])


def test_figures_are_those_derived_by_hand() -> None:
    """Confusion [[3,1,0],[1,1,0],[0,1,1]], so accuracy 5/8.

    F1 = 2 TP / (true + named): class 0 6/8, class 1 2/5, class 2 2/3. Weighted by 4, 2, 2 items:
    (3 + 0.8 + 4/3) / 8; macro: their mean.
    """
    scores = score(TRUTH, NAMED, 3)
    assert scores.confusion.tolist() == [[3, 1, 0], [1, 1, 0], [0, 1, 1]]
    assert scores.accuracy.value == pytest.approx(5 / 8)
    assert scores.f1_weighted.value == pytest.approx((3 + 0.8 + 4 / 3) / 8)
    assert scores.f1_macro.value == pytest.approx((0.75 + 0.4 + 2 / 3) / 3)
    found = scores.to_dict(["a", "b", "c"])
    assert found["classes"]["b"] == {"precision": 1 / 3, "recall": 0.5, "f1": 0.4, "items": 2}
    assert found["majority"] == 0.5


def test_a_class_that_never_occurs_does_not_enter_the_macro_mean() -> None:
    """Classes 0 and 1 are perfect, class 2 is neither truth nor prediction: F1 1, not 2/3."""
    assert score(torch.tensor([0, 1]), torch.tensor([0, 1]), 3).f1_macro.value == 1.0


def test_a_class_that_is_only_named_counts_as_zero() -> None:
    """Class 1 is named once and never true: F1 of class 0 is 2/3, the macro mean 1/3."""
    macro = score(torch.tensor([0, 0]), torch.tensor([0, 1]), 2).f1_macro.value
    assert macro == pytest.approx(1 / 3)


def test_the_interval_of_an_accuracy_is_that_of_the_binomial() -> None:
    """Of 400 items 300 are right: ± 1.96 √(0.75 · 0.25 / 400) = ± 0.0424."""
    truth = torch.zeros(400, dtype=torch.long)
    named = (torch.arange(400) % 4 == 0).long()
    found = score(truth, named, 2).accuracy
    assert found.value == 0.75
    assert found.high - found.low == pytest.approx(2 * 0.0424, rel=0.1)


def test_copies_are_drawn_together_and_widen_the_interval() -> None:
    """Four copies of each of 100 items: √4 times as wide as 400 items."""
    truth = torch.zeros(400, dtype=torch.long)
    named = (torch.arange(400) // 4 % 4 == 0).long()
    alone = score(truth, named, 2).accuracy
    together = score(truth, named, 2, groups=torch.arange(400) // 4).accuracy
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.15)


def test_a_paired_gain_of_equal_predictions_is_exactly_zero() -> None:
    gain = paired_gain(TRUTH, NAMED, NAMED)
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_a_paired_gain_is_narrower_than_the_difference_of_two_independent_draws() -> None:
    """Both err on the same 100 of 400 items, and `ours` is right on ten more: 2.5 points.

    The difference is 1 on 10 items of 400, so its deviation is √(0.025 · 0.975 / 400) = 0.0078.
    """
    truth = torch.zeros(400, dtype=torch.long)
    theirs = (torch.arange(400) < 100).long()
    ours = (torch.arange(400) < 90).long()
    gain = paired_gain(truth, ours, theirs)
    assert gain.value == pytest.approx(0.025)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * 0.0078, rel=0.15)


class _Largest(TorchDispatchMode):
    """Remembers the most numbers of any tensor that is made."""

    numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_resamples_of_many_classes_take_the_memory_of_one_confusion_matrix() -> None:
    """100 classes: 10,000 numbers, whether there are 20 resamples or 200."""
    truth = torch.arange(300) % 100
    named = torch.where(torch.arange(300) % 3 == 0, (truth + 1) % 100, truth)
    for resamples in (20, 200):
        with _Largest() as largest:
            score(truth, named, 100, resamples=resamples)
            paired_gain(truth, named, truth, resamples=resamples)
        assert largest.numbers == 10_000


def test_no_items_are_an_error() -> None:
    empty = torch.zeros(0, dtype=torch.long)
    with pytest.raises(DataError, match="0 items have a label"):
        score(empty, empty, 2)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(0, 5),
)
def test_figures_lie_between_0_and_1_and_do_not_depend_on_the_order(
    pairs: list[tuple[int, int]], turn: int
) -> None:
    truth, named = torch.tensor(pairs).T
    scores = score(truth, named, 4, resamples=2)
    turned = score(truth.roll(turn), named.roll(turn), 4, resamples=2)
    assert torch.equal(scores.confusion, turned.confusion)
    figures = figures_of(scores.confusion.double())
    found = [one.value for one in (scores.accuracy, scores.f1_weighted, scores.f1_macro)]
    assert figures.tolist() == pytest.approx(found)  # those of resamples are scikit-learn's
    assert bool(((figures >= 0) & (figures <= 1)).all())
    assert float(figures[0]) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tijepa\[classify\]'"):
        score(TRUTH, NAMED, 3)
