from __future__ import annotations

from tijepa.inference.hub.provenance import shown_verdict

HEALTH = {"verdict": "degrading", "reason": "fused embeddings shrink"}


def test_the_readings_own_verdict_comes_first() -> None:
    assert shown_verdict({"verdict": "healthy", "reason": "wide"}, HEALTH) == ("healthy", "wide")


def test_the_guard_speaks_where_the_readings_judge_nothing() -> None:
    unjudged = {"verdict": "unjudged", "reason": "nothing pooled is trained"}
    assert shown_verdict(unjudged, HEALTH) == ("degrading", "fused embeddings shrink")
    assert shown_verdict(unjudged, None) == ("unjudged", "nothing pooled is trained")


def test_what_is_not_recorded_is_none() -> None:
    assert shown_verdict({}, HEALTH) == (None, None)
    assert shown_verdict({"verdict": 3, "reason": None}, None) == (None, None)
