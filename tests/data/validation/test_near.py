from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.validation.near import NEAR_DISTANCE, bits_set, is_plain, near_components


def words(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def by_brute_force(values: list[int]) -> list[int]:
    """Connected components by comparing all pairs; each is named by its first member."""
    names = list(range(len(values)))
    for i, first in enumerate(values):
        for j, second in enumerate(values):
            if (first ^ second).bit_count() <= NEAR_DISTANCE and names[i] != names[j]:
                low, high = sorted((names[i], names[j]))
                names = [low if name == high else name for name in names]
    return names


def test_bits_are_counted() -> None:
    values = [0, 1, 2**63, 2**64 - 1, 0xF0F0F0F0F0F0F0F0, 0x8000000000000001]
    assert bits_set(words(values)).tolist() == [0, 1, 1, 64, 32, 2]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_bits_are_counted_as_python_does(values: list[int]) -> None:
    assert bits_set(words(values)).tolist() == [value.bit_count() for value in values]


@settings(deadline=None, max_examples=60)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 63), max_size=5)), max_size=25
    ),
)
def test_components_are_those_of_all_pairs(
    seeds: list[int], flips: list[tuple[int, list[int]]]
) -> None:
    """Values a few bits away from a few seeds: pairs near, just near, and just too far."""
    values = set(seeds)
    for which, positions in flips:
        value = seeds[which % len(seeds)]
        for position in positions:
            value ^= 1 << position
        values.add(value)
    ordered = sorted(values)
    assert near_components(words(ordered)).tolist() == by_brute_force(ordered)


@pytest.mark.parametrize("bits", [(0, 1, 2), (0, 20, 40), (61, 62, 63), (10, 11, 55)])
def test_three_bits_apart_is_near_wherever_they_lie(bits: tuple[int, ...]) -> None:
    value = 0x0123456789ABCDEF
    other = value ^ sum(1 << bit for bit in bits)
    assert len(set(near_components(words(sorted([value, other]))).tolist())) == 1


def test_four_bits_apart_is_not_near() -> None:
    value = 0x0123456789ABCDEF
    assert near_components(words(sorted([value, value ^ 0b1111]))).tolist() == [0, 1]


def test_no_hash_is_no_component() -> None:
    assert near_components(words([])).tolist() == []


def test_beyond_the_window_a_set_may_fall_apart_but_the_cost_stays_bounded() -> None:
    """2,048 values of one band agree in all others; each is compared with its next 64 only.

    All numbers below 2 ** 6 and their neighbours are linked within the window, so at least every
    run of 64 hangs together: at most 32 sets. Without any window there would be one.
    """
    base = 0x0123456789AB0000
    values = words([base + number for number in range(2_048)])
    assert 1 <= len(np.unique(near_components(values))) <= 32


def test_flat_and_evenly_shaded_images_have_plain_hashes() -> None:
    """7 bits set or unset are plain, 8 are not."""
    values = words([0, 2**64 - 1, 0x7F, 0xFF, 2**64 - 1 - 0x7F, 2**64 - 1 - 0xFF])
    assert is_plain(values).tolist() == [True, True, True, False, True, False]
