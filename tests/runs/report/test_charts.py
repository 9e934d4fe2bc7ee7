from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.runs.report.charts import LIMIT, Reference, Series, line_chart, thin


def coordinates(chart: str) -> list[tuple[float, float]]:
    lines = re.findall(r'points="([^"]*)"', chart)
    return [tuple(map(float, pair.split(","))) for line in lines for pair in line.split()]  # type: ignore[misc]


def test_thinning_keeps_median_and_range_of_each_group() -> None:
    """Six points into two groups: (3, 1, 2) and (9, 4, 5)."""
    thinned = thin(Series("x", range(6), [3.0, 1.0, 2.0, 9.0, 4.0, 5.0]), limit=2)
    assert thinned.steps.tolist() == [2.0, 5.0]
    assert thinned.middle.tolist() == [2.0, 5.0]
    assert thinned.low.tolist() == [1.0, 4.0]
    assert thinned.high.tolist() == [3.0, 9.0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.integers(1, 20))
def test_thinning_is_bounded_and_loses_no_extreme(values: list[float], limit: int) -> None:
    thinned = thin(Series("x", range(len(values)), values), limit)
    assert len(thinned.middle) == min(len(values), limit)
    finite = [v for v in values if math.isfinite(v)]
    assert thinned.unfinished == len(values) - len(finite)
    if finite:
        assert np.nanmin(thinned.low) == min(finite)
        assert np.nanmax(thinned.high) == max(finite)


def test_a_hundred_thousand_points_make_a_small_chart_inside_its_frame() -> None:
    steps = np.arange(100_000)
    noise = np.random.default_rng(0).standard_normal(100_000)
    chart = line_chart("Loss", [Series("loss", steps.tolist(), (5 + noise).tolist())])
    assert len(chart) < 30_000
    points = coordinates(chart)
    assert len(points) == 3 * LIMIT  # the line once, the band's two edges
    assert all(0 <= x <= 440 and 0 <= y <= 236 for x, y in points)


def test_one_point_is_a_dot() -> None:
    chart = line_chart("Loss", [Series("loss", [20], [0.5])])
    assert chart.count("<circle") == 1
    assert "<polyline" not in chart
    assert "step 20: 0.500" in chart


def test_values_that_are_not_finite_break_the_line_and_are_counted() -> None:
    values = [1.0, 2.0, math.nan, 3.0, 4.0, math.inf]
    chart = line_chart("Loss", [Series("loss", range(6), values)])
    assert chart.count("<polyline") == 2
    assert "2 values are not finite" in chart
    assert "<b>4.00</b>" in chart
    assert "nan" not in chart.lower()


@pytest.mark.parametrize("values", [[], [math.nan], [math.nan, math.inf]])
def test_a_series_without_finite_values_is_said_in_words(values: list[float]) -> None:
    chart = line_chart("Loss", [Series("loss", range(len(values)), values)])
    assert "No finite value yet" in chart
    assert "<svg" not in chart


def test_low_values_are_drawn_below_high_ones() -> None:
    (_, first), (_, last) = coordinates(line_chart("t", [Series("s", [0, 10], [1.0, 2.0])]))
    assert first > last  # the y axis of SVG points down


def test_a_wide_range_gets_a_logarithmic_axis_where_allowed() -> None:
    """1, 100, 10,000 lie at equal distances."""
    series = [Series("s", [0, 1, 2], [1.0, 100.0, 10_000.0])]
    chart = line_chart("t", series, allow_log=True)
    assert "Logarithmic axis" in chart
    y = [y for _, y in coordinates(chart)]
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    assert "Logarithmic" not in line_chart("t", series)


def test_the_reference_is_drawn_and_named() -> None:
    chart = line_chart(
        "R",
        [Series("R@1", [0, 1], [0.1, 0.5])],
        unit="percent",
        reference=Reference("chance", 0.002),
    )
    assert 'class="line reference"' in chart
    assert "chance <b>0.2\u00a0%</b>" in chart


def test_names_are_escaped_and_the_image_has_a_text() -> None:
    chart = line_chart("<t>", [Series('"<s>', [1, 2], [3.0, 4.0])])
    assert "<t>" not in chart
    assert "<s>" not in chart
    label = re.search(r'aria-label="([^"]*)"', chart)
    assert label is not None
    assert "3.00 at step 1, 4.00 at step 2" in label.group(1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=8), st.booleans())
def test_any_values_stay_inside_the_frame(values: list[float], log: bool) -> None:
    chart = line_chart("t", [Series("s", range(len(values)), values)], allow_log=log)
    assert "nan" not in chart.lower()
    assert all(-1 <= x <= 441 and -1 <= y <= 237 for x, y in coordinates(chart))


def test_an_axis_does_not_magnify_noise() -> None:
    """16.668 to 16.674 takes a hundredth of an axis that spans a tenth of 16.674 and margins."""
    chart = line_chart("Rank", [Series("image", [0, 1, 2], [16.668, 16.674, 16.67])])
    y = [y for _, y in coordinates(chart)]
    assert max(y) - min(y) < 2


def test_an_axis_of_shares_begins_at_0_and_fits_what_is_drawn() -> None:
    """0.2 of 0.21 is nearly at the top; 1 is at the top, for no share is higher."""
    for highest, above in ((0.2, 0.05), (1.0, 0.0)):
        series = [Series("R@1", [0, 1], [0.0, highest])]
        (_, foot), (_, top) = coordinates(line_chart("R", series, unit="percent"))
        assert foot == 210
        assert (top - 10) / 200 == pytest.approx(above / 1.05, abs=1e-3)


def test_curves_that_hide_each_other_are_all_seen() -> None:
    same = [Series(name, [0, 1], [1.0, 3.0]) for name in "abc"]
    other = Series("d", [0, 1], [1.0, 2.0])
    chart = line_chart("t", [*same, other])
    lines = re.findall(r'<polyline class="([^"]*)"', chart)
    assert lines == ["line s1", "line s2 dashed", "line s3 dotted", "line s4"]
    assert "b and c run on top of a." in chart
