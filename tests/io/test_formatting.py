from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.io.formatting import count, escape, number, percent, plain, rank, times_chance


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.99961, "1.00"), (1.2345, "1.23"), (12.345, "12.3"), (123.4, "123"),
     (1234.6, "1,235"), (0.012345, "0.0123"), (1.2e-5, "1.2e-05"), (-1.2345, "-1.23"),
     (math.nan, "not a number"), (math.inf, "∞")],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.742, "74.2"), (1, "100.0"), (0, "0.0"), (0.0002, "0.020")]
)
def test_shares_are_shown_as_per_cent(share: float, shown: str) -> None:
    assert percent(share) == f"{shown}\u00a0%"


def test_ranks_show_halves_only_where_there_are_any() -> None:
    assert [rank(1.0), rank(2.5), rank(1204.0)] == ["1", "2.5", "1,204"]


def test_recall_is_told_in_multiples_of_chance() -> None:
    assert times_chance(0.742, 0.002) == "371\u00a0\N{MULTIPLICATION SIGN}"
    assert times_chance(0.003, 0.002) == "1.5\u00a0\N{MULTIPLICATION SIGN}"
    assert times_chance(math.nan, 0.002) == times_chance(0.5, math.nan) == "?"


def test_names_become_words() -> None:
    assert [plain("image_infill"), plain("squared_l2")] == ["image infill", "squared L2"]


def test_counts_separate_thousands() -> None:
    assert count(12000.0) == "12,000"


@given(st.text())
def test_escaped_text_holds_no_markup(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("<>\"'\x00\x1b")
