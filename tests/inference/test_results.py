from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tijepa.inference.results import (
    Accuracy,
    Collapse,
    Direction,
    Health,
    Judgement,
    Match,
    Pointing,
    Retrieval,
    RunResults,
    ZeroShot,
    shown_verdict,
    trouble_in_training,
)

OLD = Path(__file__).parents[1] / "golden" / "fixtures" / "v076c1c6"
HEALTH = Health(verdict="degrading", reason="fused embeddings shrink")


@pytest.mark.parametrize("run", ["finished", "frozen"])
def test_results_of_the_old_version_come_back_as_they_were(run: str) -> None:
    text = (OLD / run / "results.json").read_text(encoding="utf-8")
    written = RunResults.from_json(json.loads(text)).to_json()
    assert json.dumps(written) == json.dumps(json.loads(text))


@pytest.mark.parametrize("run", ["finished", "frozen"])
def test_evaluations_while_training_come_back_as_they_were(run: str) -> None:
    for text in (OLD / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line["kind"] == "eval":
            read = RunResults.from_json(line)
            assert read.step == line["step"]
            assert {"kind": "eval"} | read.to_json() == line


def test_every_part_has_its_type() -> None:
    found = RunResults.from_json(
        {
            "retrieval": {"image_to_text": {"recall_at_1": 1}, "num_images": 4},
            "health": {
                "step": 3,
                "findings": [{"subject": "image", "since": 2}],
                "rollbacks": [{}],
            },
            "match_probability": {"bins": [{"from": 0.0, "to": 0.1}]},
            "novel": {"retrieval": {"num_images": 8}},
            "zero_shot": {"top_5": None, "labels": [{"label": "red", "top_1": 0.5}]},
            "hard_negatives": {"predicate": {"accuracy": 0.5, "pairs": 2}},
            "pointing": {"accuracy": 0.5},
        }
    )
    assert found.retrieval is not None
    assert found.retrieval.chance_at_1 == 0.25
    assert found.retrieval.image_to_text.recall_at_1 == 1
    assert math.isnan(found.retrieval.text_to_image.recall_at_1)
    assert found.health is not None
    assert (found.health.step, found.health.findings[0].since) == (3, 2)
    assert isinstance(found.match_probability, Match)
    assert found.match_probability.bins[0].low == 0.0
    assert found.novel is not None
    assert found.novel.retrieval.num_images == 8
    assert isinstance(found.zero_shot, ZeroShot)
    assert found.zero_shot.top_5 is None
    assert (found.zero_shot.labels[0].label, found.zero_shot.labels[0].top_1) == ("red", 0.5)
    assert found.hard_negatives == {"predicate": Accuracy(0.5, 2)}
    assert isinstance(found.pointing, Pointing)


@pytest.mark.parametrize("damage", [None, 3, "x", [], [1], {}, {"a": None}, {"verdict": []}])
def test_whatever_is_damaged_is_missing_and_the_rest_is_read(damage: Any) -> None:
    """No part of a record, whatever it holds, keeps the others from being read."""
    names = RunResults.__dataclass_fields__.keys() - {"extra", "split"}
    found = RunResults.from_json({"split": "test"} | dict.fromkeys(names, damage))
    assert found.split == "test"
    json.dumps(found.to_json(), allow_nan=False)
    if not isinstance(damage, dict) or not damage:
        assert found.retrieval is None
        assert found.collapse is None
        assert found.energies == {}


def test_numbers_that_are_damaged_are_nan_and_written_as_null() -> None:
    found = RunResults.from_json({"collapse": {"image": {"effective_rank": "many"}, "gap": None}})
    assert found.collapse is not None
    assert math.isnan(found.collapse.image.effective_rank)
    assert math.isnan(found.collapse.gap)
    assert found.to_json()["collapse"]["image"]["effective_rank"] is None


def test_what_a_plug_in_measured_is_kept() -> None:
    content = {"split": "test", "match_probability": None, "my_metric": {"value": 3}}
    found = RunResults.from_json(content)
    assert found.extra == {"my_metric": {"value": 3}}
    assert found.to_json() == content


def test_the_reported_form_is_found_among_the_energies() -> None:
    """By its name, or by its figures where the name is not recorded."""
    one, other = (Retrieval(Direction(0.5, 1, 1, 1), Direction(0.5, 1, 1, 1), n, n) for n in (4, 5))
    both = {"cosine": one, "squared_l2": other}
    assert RunResults(retrieval=one, form="cosine", energies=both).forms == (both, "cosine")
    assert RunResults(retrieval=other, energies=both).forms == (both, "squared_l2")
    assert RunResults(retrieval=one).forms == ({"reported": one}, "reported")


def test_the_readings_own_verdict_comes_first() -> None:
    assert shown_verdict(Collapse(verdict="healthy", reason="wide"), HEALTH) == ("healthy", "wide")


def test_the_guard_speaks_where_the_readings_judge_nothing() -> None:
    unjudged = Collapse(verdict="unjudged", reason="nothing pooled is trained")
    assert shown_verdict(unjudged, HEALTH) == ("degrading", "fused embeddings shrink")
    assert shown_verdict(unjudged, None) == ("unjudged", "nothing pooled is trained")
    assert RunResults(collapse=unjudged, health=HEALTH).judgement.verdict == "degrading"


def test_a_verdict_that_is_not_recorded_is_none() -> None:
    assert shown_verdict(None, HEALTH) == Judgement(None, None)
    assert RunResults.from_json({"collapse": {"verdict": 3}}).judgement == (None, None)


def test_trouble_at_the_end_of_training_is_told_beside_a_verdict_on_the_kept_model() -> None:
    healthy, unjudged = Collapse(verdict="healthy"), Collapse(verdict="unjudged")
    assert trouble_in_training(healthy, HEALTH) == "degrading"
    assert trouble_in_training(healthy, Health(verdict="early")) is None
    assert RunResults(collapse=unjudged, health=HEALTH).trouble is None
