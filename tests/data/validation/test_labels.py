from __future__ import annotations

from tijepa.data.validation.statistics import LabelStatistics


def collect(*rows: dict) -> dict:
    statistics = LabelStatistics()
    for row in rows:
        statistics.add(row)
    return statistics.summary()


def test_columns_of_few_values_are_counted() -> None:
    rows = [{"label": "cat"}, {"label": "dog"}, {"label": "cat"}, {"label": None}]
    assert collect(*rows) == {"label": {"cat": 2, "dog": 1, "(none)": 1}}


def test_columns_of_many_values_are_no_labels() -> None:
    """51 values are too many, 50 are not."""
    assert collect(*({"id": number % 51} for number in range(200))) == {}
    assert len(collect(*({"id": number % 50} for number in range(200)))["id"]) == 50


def test_columns_that_name_every_item_or_never_change_are_no_labels() -> None:
    assert collect({"url": "a", "source": "x"}, {"url": "b", "source": "x"}) == {}


def test_long_texts_floats_and_nested_values_are_no_labels() -> None:
    rows = [{"text": "x" * 61, "score": 0.5, "box": [1]}, {"text": "y", "score": 1.0, "box": [2]}]
    assert collect(*rows, *rows) == {}
