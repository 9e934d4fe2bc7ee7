from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.errors import ConfigError, DataError
from tijepa.evaluate.scores import assign_folds, hold_out, join_groups


@given(st.lists(st.integers(0, 2), min_size=15, max_size=60), st.integers(0, 9))
def test_without_copies_folds_differ_by_at_most_one_item_of_a_class(
    classes: list[int], seed: int
) -> None:
    labels = torch.tensor([*classes, *range(3), *range(3), *range(3)])
    fold = assign_folds(labels, torch.arange(len(labels)), 3, seed)
    for label in range(3):
        counts = torch.bincount(fold[labels == label], minlength=3)
        assert int(counts.max() - counts.min()) <= 1
    sizes = torch.bincount(fold, minlength=3)
    assert int(sizes.max() - sizes.min()) <= 3


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 19)), min_size=40, max_size=80),
    st.integers(0, 9),
)
def test_a_group_never_straddles_folds(items: list[tuple[int, int]], seed: int) -> None:
    singles = [(label, 100 + k) for k, label in enumerate([0, 1] * 30)]
    labels, groups = torch.tensor([*items, *singles]).T
    fold = assign_folds(labels, groups, 2, seed)
    for group in groups.unique().tolist():
        assert len(fold[groups == group].unique()) == 1


def test_equal_seeds_give_equal_folds_and_others_do_not() -> None:
    labels, groups = torch.arange(60) % 3, torch.arange(60)
    first = assign_folds(labels, groups, 5, 0)
    assert torch.equal(first, assign_folds(labels, groups, 5, 0))
    assert not torch.equal(first, assign_folds(labels, groups, 5, 1))


def test_a_class_in_too_few_groups_is_refused() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    groups = torch.tensor([0, 1, 2, 3, 4, 4])
    with pytest.raises(DataError, match="class 1 has 1 item that is no copy of another"):
        assign_folds(labels, groups, 2, 0)
    with pytest.raises(DataError, match="class 'sad' has 1 item that"):
        assign_folds(labels, groups, 2, 0, names=["glad", "sad"])


def test_a_group_larger_than_a_fold_is_refused() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(DataError, match="4 of 6 items are copies"):
        assign_folds(labels, torch.tensor([0, 0, 0, 0, 1, 2]), 2, 0)


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match="folds is 1: it must be at least 2"):
        assign_folds(torch.tensor([0, 1]), torch.arange(2), 1, 0)


def test_a_tenth_of_every_class_is_held_out() -> None:
    labels = torch.tensor([0] * 100 + [1] * 50)
    held = hold_out(labels, torch.arange(150), 0.1, 0)
    assert (int(held[:100].sum()), int(held[100:].sum())) == (10, 5)


def test_a_rare_class_is_held_out_as_well_and_a_large_group_is_not() -> None:
    """Class 1 stands in three groups, so there are three parts. Of class 0 the 40 copies fill one
    and the 50 others are shared by two: 25 each, of which one part is held out."""
    labels = torch.tensor([0] * 90 + [1] * 3)
    groups = torch.cat([torch.zeros(40, dtype=torch.long), torch.arange(1, 54)])
    held = hold_out(labels, groups, 0.1, 0)
    assert not held[:40].any()
    assert (int(held[:90].sum()), int(held[90:].sum())) == (25, 1)


def test_a_class_of_one_group_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="class 1 has 1 item that"):
        hold_out(torch.tensor([0, 0, 1]), torch.arange(3), 0.1, 0)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_share_out_of_bounds_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="must lie above 0"):
        hold_out(torch.tensor([0, 1]), torch.arange(2), share, 0)


def test_items_are_joined_through_others_and_none_joins_nothing() -> None:
    """0 and 2 share an image, 2 and 3 a text; 1 and 4 share only what is missing."""
    images = ["a", None, "a", "b", None]
    texts = ["p", "q", "r", "r", "s"]
    assert join_groups(images, texts).tolist() == [0, 1, 0, 0, 4]
