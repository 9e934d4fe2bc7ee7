"""Pooled tokens by hand; of a network on a grid of 2 x 2 whose patch k has the token (k, 1)."""

from __future__ import annotations

import pytest
import torch

from tijepa.model.encoded import Encoded, gather_tokens, parts_of, pool, pooled


def test_gathering_picks_each_row_its_own_tokens() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    got = gather_tokens(x, torch.tensor([[2, 0], [1, 1]]))
    expected = torch.tensor([[[4.0, 5.0], [0.0, 1.0]], [[8.0, 9.0], [8.0, 9.0]]])
    assert torch.equal(got, expected)


def test_pooling_is_the_mean_over_real_tokens() -> None:
    x = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool(x, mask), torch.tensor([[2.0], [4.0]]))
    assert torch.equal(pool(x[1:], None), torch.tensor([[4.0]]))


def seen(index: list[int], mask: list[bool], summary: bool = True) -> Encoded:
    position = torch.tensor([index])
    tokens = torch.stack([position.float(), torch.ones_like(position).float()], dim=2)
    own = torch.tensor([[9.0, 8.0]]) if summary else torch.zeros(1, 0)
    return Encoded(tokens, position, torch.tensor([mask]), own)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [1.5, 1]),
        ("class", [9, 8]),
        ("class_mean", [9, 8, 1.5, 1]),
        ("grid", [9, 8, 1.5, 1, 0, 1, 1, 1, 2, 1, 3, 1]),
    ],
)
def test_each_pooling_is_what_its_name_says(pooling: str, expected: list[float]) -> None:
    found = pooled(seen([0, 1, 2, 3], [True] * 4), pooling, 2)
    assert found.tolist() == [expected]
    assert len(expected) == 2 * parts_of(pooling, True)


def test_padding_counts_nowhere_and_an_empty_quarter_is_zero() -> None:
    """Patches 3 and 1 are seen, in that order, patch 0 is padding: the mean is 2."""
    found = pooled(seen([3, 1, 0], [True, True, False]), "grid", 2)
    assert found.tolist() == [[9, 8, 2, 1, 0, 0, 1, 1, 0, 0, 3, 1]]


def test_without_a_summary_a_grid_has_five_parts() -> None:
    found = pooled(seen([0, 1, 2, 3], [True] * 4, summary=False), "grid", 2)
    assert found.tolist() == [[1.5, 1, 0, 1, 1, 1, 2, 1, 3, 1]]
    assert parts_of("grid", False) == 5


def test_the_middle_of_an_odd_grid_belongs_to_the_lower_right() -> None:
    """3 x 3: quarter 0 is patch 0; 1 is patches 1, 2; 2 is 3, 6; 3 is 4, 5, 7, 8."""
    found = pooled(seen(list(range(9)), [True] * 9, summary=False), "grid", 3)
    assert found[0, 2::2].tolist() == [0, 1.5, 4.5, 6]
