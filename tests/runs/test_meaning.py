from __future__ import annotations

from pathlib import Path

import pytest

import tijepa
from tijepa.cli import main
from tijepa.cli.tables import meaning_lines
from tijepa.data.scenes import Scenes
from tijepa.inference.results import RunResults
from tijepa.runs.evaluation import meaning


def test_results_hold_the_game_and_every_kind_of_hard_negative(tiny_run: Path) -> None:
    found = meaning(tijepa.load(tiny_run), Scenes("test", 6, image_size=32), 6)
    assert set(found) == {"pointing", "hard_negatives"}
    assert set(found["hard_negatives"]) == {"attributes", "predicate", "exchange"}
    lines = meaning_lines(RunResults(**found))
    assert len(lines) == 4
    assert lines[0].startswith("pointing ")
    assert "exchange" in lines[3]


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert meaning_lines(RunResults()) == []


def test_other_pairs_than_scenes_are_refused(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny_run), "--json", "--meaning"]) == 2
    assert "--meaning needs the ground truth of scenes" in capsys.readouterr().err


def test_scenes_can_be_asked_of_a_run_on_other_pairs(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tijepa.runs.evaluation import evaluate_run

    monkeypatch.setattr("tijepa.runs.evaluation.POINTED", 2)
    monkeypatch.setattr("tijepa.data.scenes.source.SPLIT_SIZES", {"train": 9, "test": 9})
    results = evaluate_run(tiny_run, data="scenes", parts=True)
    assert results.pointing is not None
    assert results.pointing.grid == 8
    assert results.hard_negatives["attributes"].pairs > 0
