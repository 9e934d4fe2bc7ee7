from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.batches.order import Order, hash_words, uniforms
from tijepa.errors import DataError

counts = st.integers(1, 300)
seeds = st.integers(0, 2**31 - 1)


@settings(deadline=None)
@given(counts, seeds, st.integers(0, 10**9))
def test_each_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert sorted(Order(count, seed).at(epoch * count, count)) == list(range(count))


@settings(deadline=None)
@given(counts, seeds, st.integers(0, 700), st.integers(0, 700))
def test_slices_agree_with_the_whole_across_epochs(
    count: int, seed: int, start: int, length: int
) -> None:
    order = Order(count, seed)
    whole = order.at(0, 1400)
    assert np.array_equal(order.at(start, length), whole[start : start + length])


def test_epochs_and_seeds_differ() -> None:
    first = Order(1000, seed=0).at(0, 1000)
    assert np.mean(first == Order(1000, seed=0).at(1000, 1000)) < 0.02
    assert np.mean(first == Order(1000, seed=1).at(0, 1000)) < 0.02


def test_a_far_cursor_of_ten_million_rows_is_reached_at_once() -> None:
    order = Order(10_000_000, seed=5)
    indexes = order.at(10**15, 4096)
    assert len(set(indexes.tolist())) == 4096
    assert indexes.min() >= 0
    assert indexes.max() < 10_000_000


def test_all_permutations_of_four_are_equally_frequent() -> None:
    """24 permutations, 24,000 epochs: each count is Binomial(24000, 1/24), mean 1000.

    Chi-square with 23 degrees of freedom has mean 23 and standard deviation 6.8; 60 is beyond
    5 standard deviations.
    """
    epochs = 24_000
    drawn = Order(4, seed=0).at(0, 4 * epochs).reshape(epochs, 4)
    seen = Counter(map(tuple, drawn.tolist()))
    assert set(seen) == set(permutations(range(4)))
    assert sum((n - 1000) ** 2 / 1000 for n in seen.values()) < 60


def test_items_are_spread_evenly_over_positions() -> None:
    """Items of [0, 1000) in 10 bins against positions in 10 bins, 50 epochs: 500 in each cell.

    Chi-square with 81 free cells has mean 81 and standard deviation 12.7; without replacement it
    can only be smaller. 150 is beyond 5 standard deviations.
    """
    drawn = Order(1000, seed=2).at(0, 50_000).reshape(50, 10, 100)
    cells = np.zeros((10, 10))
    for position in range(10):
        cells[position] = np.bincount(drawn[:, position].ravel() // 100, minlength=10)
    assert ((cells - 500) ** 2 / 500).sum() < 150


def test_neighbours_in_the_source_are_not_neighbours_in_the_order() -> None:
    """Of 9,999 steps about 2 in 10,000 go to an adjacent item by chance."""
    steps = np.abs(np.diff(Order(10_000, seed=0).at(0, 10_000)))
    assert (steps == 1).sum() < 15


def test_an_empty_source_has_no_order() -> None:
    with pytest.raises(DataError, match="no items"):
        Order(0, seed=0)


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    """100,000 numbers in 20 bins: chi-square with 19 degrees of freedom, mean 19, deviation 6.2."""
    values = uniforms(7, 1, np.arange(100_000, dtype=np.uint64))
    assert values.min() >= 0
    assert values.max() < 1
    seen = np.bincount((values * 20).astype(int), minlength=20)
    assert ((seen - 5000) ** 2 / 5000).sum() < 55


@settings(deadline=None)
@given(seeds, st.integers(0, 2**63))
def test_hashes_of_many_positions_are_hashes_of_each(seed: int, position: int) -> None:
    positions = np.array([position, position + 1], dtype=np.uint64)
    together = hash_words(seed, 3, positions)
    assert together[0] == hash_words(seed, 3, position)[0]
    assert together[1] == hash_words(seed, 3, position + 1)[0]
    assert together[0] != together[1]
