from __future__ import annotations

import re

from tijepa.serve.metrics import Histogram, Metrics

LINE = re.compile(r'^[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+-]+$')


def test_buckets_are_cumulative_and_bounds_belong_to_them() -> None:
    """1 and 2 lie at most at 2; 5 above both bounds."""
    histogram = Histogram((2.0, 4.0))
    for value in (1.0, 2.0, 5.0):
        histogram.add(value)
    assert list(histogram.lines("x", 'a="b",')) == [
        'x_bucket{a="b",le="2.0"} 2',
        'x_bucket{a="b",le="4.0"} 2',
        'x_bucket{a="b",le="+Inf"} 3',
        'x_sum{a="b"} 8',
        'x_count{a="b"} 3',
    ]


def test_every_line_is_of_the_text_format_and_every_name_is_described() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/items/{row}", 200, 0.02)
    metrics.answered("GET", "/items/{row}", 404, 0.2)
    metrics.batch(3)
    text = metrics.exposition(waiting=4, items=56)
    assert text.endswith("\n")
    described = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    for line in text.splitlines():
        if not line.startswith("#"):
            assert LINE.match(line), line
            name = re.sub(r"_(bucket|sum|count)$", "", re.split(r"[ {]", line)[0])
            assert name in described, line
    assert 'tijepa_requests_total{method="GET",route="/items/{row}",status="404"} 1' in text
    assert 'tijepa_request_seconds_bucket{route="/items/{row}",le="0.025"} 1' in text
    assert "tijepa_waiting_items 4" in text
    assert "tijepa_index_items 56" in text


def test_without_a_store_there_is_no_size_of_an_index() -> None:
    assert "index_items" not in Metrics().exposition(waiting=0, items=None)
