from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.io.formatting import (
    count,
    date,
    energy_name,
    escape,
    number,
    percent,
    plain,
    plural,
    points,
    printable,
    rank,
    times_chance,
)


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
    assert [plural(1, "item", "items"), plural(2000, "item", "items")] == ["1 item", "2,000 items"]


def test_a_form_of_energy_is_named_with_its_unit() -> None:
    assert [energy_name("calibrated"), energy_name("squared_l2")] == [
        "calibrated, nats",
        "squared L2",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2025-01-02T03:04:05", "2 January 2025, 03:04"),
        ("2026-11-24T08:21:57+00:00", "24 November 2026, 08:21 UTC"),
        ("2026-11-24T08:21:57+02:00", "24 November 2026, 08:21 UTC+02:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_shown_as_dates(text: str, shown: str) -> None:
    assert date(text) == shown


def test_what_would_command_a_terminal_is_shown_as_escapes() -> None:
    hostile = "red \x1b[31m, back \x08\r, bell \x07, C1 \x9b2J, turned \u202egnp.exe, half \ud83d"
    assert printable(hostile) == (
        r"red \x1b[31m, back \x08\r, bell \x07, C1 \x9b2J, turned \u202egnp.exe, half \ud83d"
    )
    family, joined = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0646\u0645\u06cc\u200c\u062e"
    for harmless in ("two\nlines\tand a tab", family, joined):
        assert printable(harmless) == harmless


@given(st.text())
def test_escaped_text_holds_no_markup(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("<>\"'\x00\x1b")


def test_a_difference_is_told_in_points_with_its_sign() -> None:
    assert [points(one) for one in (0.0314, -0.0004, 0.0)] == ["+3.1", "-0.0", "+0.0"]
    assert points(float("nan")) == percent(float("nan"))
