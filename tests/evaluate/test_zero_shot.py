from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.evaluate.zero_shot import zero_shot

NAMES = ["a", "b", "c"]


def test_shares_are_counted_by_the_lowest_energy() -> None:
    """Four images, three labels. Right: rows 0 and 1, so top 1 is 1/2.

    Of label a (rows 0, 2) half are right, of b (row 1) all, of c (row 3) none: mean 1/2. Row 2 is
    taken for c, row 3 for b. Label a has 2 of 4 items.
    """
    energy = torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [5.0, 6.0, 4.0], [2.0, 0.0, 1.0]])
    found = zero_shot(energy, torch.tensor([0, 1, 0, 2]), NAMES)
    assert found.top_1 == 0.5
    assert found.top_5 is None
    assert found.mean_per_label == 0.5
    assert (found.chance, found.majority, found.items) == (1 / 3, 0.5, 4)
    by_label = [(s.label, s.items, s.top_1, s.taken_for) for s in found.labels]
    assert by_label == [("a", 2, 0.5, "c"), ("b", 1, 1.0, None), ("c", 1, 0.0, "b")]


def test_the_five_lowest_count_where_there_are_more_labels() -> None:
    """Energies 0 to 5: label 4 has rank 5, label 5 rank 6."""
    energy = torch.arange(6.0).expand(2, 6)
    found = zero_shot(energy, torch.tensor([4, 5]), list("abcdef"))
    assert found.top_5 == 0.5
    assert found.top_1 == 0.0


def test_a_label_without_images_has_no_share() -> None:
    found = zero_shot(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]), NAMES)
    assert [score.top_1 for score in found.labels] == [1.0, None, None]
    assert found.mean_per_label == 1.0


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_model_that_decides_nothing_is_never_right(value: float) -> None:
    """Equal energies, and energies that are no numbers."""
    found = zero_shot(torch.full((4, 3), value), torch.tensor([0, 1, 2, 0]), NAMES)
    assert found.top_1 == 0.0


@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 10))
def test_shares_do_not_depend_on_the_order_of_labels(labels: int, items: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    energy = torch.randn(items, labels, generator=generator)
    label = torch.randint(labels, (items,), generator=generator)
    names = [str(k) for k in range(labels)]
    one = zero_shot(energy, label, names)
    other = zero_shot(energy.flip(1), labels - 1 - label, names[::-1])
    assert one.top_1 == other.top_1
    assert one.mean_per_label == pytest.approx(other.mean_per_label)
    assert one.labels == other.labels[::-1]
