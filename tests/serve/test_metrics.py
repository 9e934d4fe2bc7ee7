from __future__ import annotations

import re

from tijepa.serve.metrics import Metrics

LINE = re.compile(r'^[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+-]+$')


def test_every_line_is_of_the_text_format_and_every_name_is_described() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/items/{row}", 200, 0.02)
    metrics.answered("GET", "/items/{row}", 404, 0.2)
    metrics.batch(3)
    text = metrics.exposition(waiting=4, items=56)
    assert "_created" not in text
    described = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    for line in text.splitlines():
        if not line.startswith("#"):
            assert LINE.match(line), line
            name = re.sub(r"_(bucket|sum|count)$", "", re.split(r"[ {]", line)[0])
            assert name in described, line
    assert 'tijepa_requests_total{method="GET",route="/items/{row}",status="404"} 1.0' in text
    # buckets are cumulative: 0.02 s lies in the one up to 0.025, 0.2 s does not
    assert 'tijepa_request_seconds_bucket{le="0.025",route="/items/{row}"} 1.0' in text
    assert 'tijepa_request_seconds_bucket{le="+Inf",route="/items/{row}"} 2.0' in text
    assert "tijepa_waiting_items 4.0" in text
    assert "tijepa_index_items 56.0" in text


def test_without_a_store_there_is_no_size_of_an_index() -> None:
    assert "index_items" not in Metrics().exposition(waiting=0, items=None)
