from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.training.optimizer import cosine, warmup_cosine


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 2.0), (25, 1.0 + (1 + math.sqrt(0.5)) / 2), (50, 1.5), (100, 1.0), (1000, 1.0)],
)
def test_cosine_by_hand(step: int, expected: float) -> None:
    """From 2 to 1 over 100 steps; a quarter of the way cos(π/4) = √½; after the end it rests."""
    assert cosine(step, 100, 2.0, 1.0) == pytest.approx(expected)


def test_momentum_rises_to_one_along_the_same_cosine() -> None:
    """Halfway between 0.99 and 1 at half the steps, and exactly 1 at the end."""
    assert cosine(50, 100, 0.99, 1.0) == pytest.approx(0.995)
    assert cosine(100, 100, 0.99, 1.0) == 1.0


def test_warmup_is_linear_and_meets_the_cosine_at_its_peak() -> None:
    """Peak 4 after 4 steps: 1, 2, 3, 4, then a cosine of 8 steps from 4 to 2 (3 at its middle)."""
    values = [warmup_cosine(step, 12, 4, 4.0, 2.0) for step in range(13)]
    assert values[:5] == [1.0, 2.0, 3.0, 4.0, 4.0]
    assert values[8] == pytest.approx(3.0)
    assert values[12] == pytest.approx(2.0)


def test_no_warmup_starts_at_the_peak() -> None:
    assert warmup_cosine(0, 10, 0, 4.0, 0.0) == 4.0


def test_warmup_over_the_whole_run_never_divides_by_zero() -> None:
    assert [warmup_cosine(step, 3, 3, 6.0, 1.0) for step in range(4)] == [2.0, 4.0, 6.0, 6.0]


@given(
    steps=st.integers(1, 200),
    share=st.floats(0, 1),
    peak=st.floats(1e-6, 10),
    final=st.floats(0, 1),
)
def test_the_learning_rate_rises_then_falls_and_stays_in_bounds(
    steps: int, share: float, peak: float, final: float
) -> None:
    warmup = round(share * steps)
    values = [warmup_cosine(step, steps, warmup, peak, final * peak) for step in range(steps)]
    assert all(0 < value <= peak * (1 + 1e-9) for value in values)
    rise, fall = values[:warmup], values[warmup:]
    assert all(a < b for a, b in pairwise(rise))
    assert all(a >= b - 1e-12 for a, b in pairwise(fall))
