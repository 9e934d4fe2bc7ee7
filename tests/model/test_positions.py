from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.model.transformer import positions_1d, positions_2d


def test_row_positions_are_sines_then_cosines_of_falling_frequencies() -> None:
    """Width 4 has frequencies 10000⁰ = 1 and 10000^(−1/2) = 1/100.

    Token p is (sin p, sin p/100, cos p, cos p/100).
    """
    expected = [[math.sin(p), math.sin(p / 100), math.cos(p), math.cos(p / 100)] for p in range(3)]
    torch.testing.assert_close(positions_1d(3, 4), torch.tensor(expected))


def test_grid_positions_hold_the_row_first_then_the_column() -> None:
    """Of a 2 × 3 grid, patch 5 is row 1, column 2; each half of the width is a row encoding."""
    grid = positions_2d(2, 3, 8)
    rows, columns = positions_1d(2, 4), positions_1d(3, 4)
    torch.testing.assert_close(grid[5], torch.cat([rows[1], columns[2]]))
    torch.testing.assert_close(grid[1], torch.cat([rows[0], columns[1]]))


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), quarter=st.integers(1, 16))
@settings(deadline=None, max_examples=30)
def test_every_patch_has_its_own_position_of_mean_square_one_half(
    rows: int, columns: int, quarter: int
) -> None:
    """sin² + cos² = 1 for every frequency, so the squares of a row of `width` sum to width / 2."""
    grid = positions_2d(rows, columns, 4 * quarter)
    assert grid.shape == (rows * columns, 4 * quarter)
    torch.testing.assert_close(grid.square().mean(dim=1), torch.full((len(grid),), 0.5))
    distance = torch.cdist(grid, grid) + torch.eye(len(grid))
    assert distance.min() > 1e-3
