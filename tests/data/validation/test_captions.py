from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.validation import statistics as module
from tijepa.data.validation.statistics import CaptionStatistics, percentiles


def collect(*items: tuple[int, tuple[str, ...]], max_tokens: int | None = None) -> dict:
    statistics = CaptionStatistics(max_tokens)
    for split, captions in items:
        statistics.add(captions, split)
    return statistics.summary()


def test_lengths_and_numbers_are_counted() -> None:
    """Words 2, 3 and 1; characters 5, 9 and 1; two items of 2 and 1 captions, one of none."""
    summary = collect((1, ("a dog", "a big cat")), (1, ("x",)), (1, ()))
    assert summary["captions"] == 3
    assert summary["per_item"] == {"0": 1, "1": 1, "2": 1}
    assert summary["words"]["mean"] == 2
    assert (summary["characters"]["min"], summary["characters"]["max"]) == (1, 9)


def test_distinct_and_repeated_captions_are_counted() -> None:
    """4 captions, 2 of them distinct; "a" stands in splits 1 and 2, "b" only in 1."""
    summary = collect((1, ("a", "b")), (2, ("a",)), (1, ("b",)))
    assert summary["distinct"] == 2
    assert summary["distinct_share"] == 0.5
    assert not summary["distinct_estimated"]
    assert summary["in_two_splits"] == 1
    assert sorted((e["caption"], e["count"]) for e in summary["most_repeated"]) == [
        ("a", 2),
        ("b", 2),
    ]


def test_items_without_split_do_not_count_as_a_second_split() -> None:
    assert collect((0, ("a",)), (1, ("a",)))["in_two_splits"] == 0


def test_cut_captions_are_at_least_those_with_too_many_words() -> None:
    """With [CLS], 4 tokens hold 3 words."""
    cut = collect((1, ("a b c", "a b c d", "a b c d e")), max_tokens=4)["cut"]
    assert cut == {"max_tokens": 4, "captions": 2, "by": "words, at least"}


def test_beyond_the_bound_distinct_captions_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 distinct captions, each twice, from at most 2,000 hashes: 10 % off is 4 sigma.

    A sample of about 1,250 hashes has a relative error of 1 / sqrt(1,250) = 2.8 %.
    """
    monkeypatch.setattr(module, "_MOST_HASHES", 4_000)
    statistics = CaptionStatistics(None)
    for split in (1, 2):
        for number in range(20_000):
            statistics.add((f"caption {number}",), split)
    summary = statistics.summary()
    assert len(statistics._hashes) <= 4_000
    assert summary["distinct_estimated"]
    assert summary["distinct"] == pytest.approx(20_000, rel=0.15)
    assert summary["in_two_splits"] == summary["distinct"]


def test_frequent_captions_survive_the_bound_on_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TEXTS", 100)
    statistics = CaptionStatistics(None)
    for number in range(1_000):
        statistics.add((f"caption {number}",), 1)
        statistics.add(("again",), 1)
    summary = statistics.summary()
    assert summary["most_repeated"][0] == {"caption": "again", "count": 1_000}
    assert summary["most_repeated_at_least"]


def test_no_caption_gives_empty_statistics() -> None:
    summary = collect()
    assert summary["captions"] == 0
    assert summary["distinct_share"] is None
    assert summary["words"] == {"count": 0}


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60))
def test_percentiles_are_those_of_the_sorted_values(values: list[int]) -> None:
    counts = np.bincount(values, minlength=100).tolist()
    found = percentiles(counts)
    expected = np.percentile(values, [5, 50, 95, 99], method="inverted_cdf")
    assert [found[f"p{p}"] for p in (5, 50, 95, 99)] == expected.tolist()
    assert (found["min"], found["max"], found["count"]) == (min(values), max(values), len(values))
    histogram = found["histogram"]
    assert sum(histogram["counts"]) + histogram["above"] == len(values)
    assert len(histogram["counts"]) <= 20
