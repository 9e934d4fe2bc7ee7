from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tijepa.cli import main
from tijepa.inference.results import RunResults
from tijepa.io.progress import Reporter

RESULTS = {
    "retrieval": {"num_images": 3},
    "collapse": {"verdict": "healthy"},
    "pointing": {"accuracy": 0.5, "chance": 0.0625, "queries": 4},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stands in for the evaluation; holds what was asked of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    asked: dict[str, Any] = {}

    def evaluate_run(run: Path, *, reporter: Reporter, **options: Any) -> RunResults:
        reporter.say("measuring")
        asked.update(run=run, **options)
        return RunResults.from_json(RESULTS)

    def print_summary(console: Console, results: RunResults, run_dir: Path | None) -> None:
        console.print(f"table of {run_dir}: {results.judgement.verdict}")

    monkeypatch.setattr("tijepa.runs.evaluation.evaluate_run", evaluate_run)
    monkeypatch.setattr("tijepa.cli.tables.print_summary", print_summary)
    return asked


def test_by_default_the_final_model_is_measured_on_the_test_split(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "run"]) == 0
    assert asked == {
        "run": Path("run"),
        "data": None,
        "split": "test",
        "checkpoint": None,
        "parts": False,
        "column": None,
        "prompts": None,
        "evaluations": (),
    }
    out = capsys.readouterr().out
    assert "table of run: healthy" in out
    assert "pointing 50.0\u00a0% (chance 6.2\u00a0%) of 4 objects" in out


def test_options_reach_the_evaluation(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's report holds other figures, so it is not pointed to."""
    options = ["--data", "photos", "--split", "novel", "--checkpoint", "300", "--meaning"]
    assert main(["evaluate", "run", *options]) == 0
    assert asked["data"] == "photos"
    assert asked["split"] == "novel"
    assert asked["checkpoint"] == "300"
    assert asked["parts"] is True
    assert "table of None: healthy" in capsys.readouterr().out


def test_json_is_alone_on_stdout(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == RunResults.from_json(RESULTS).to_json()
    assert "measuring" in err


@pytest.mark.parametrize("checkpoint", ["newest", "-1", "1.5", ""])
def test_an_impossible_checkpoint_is_refused(
    checkpoint: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "run", f"--checkpoint={checkpoint}"]) == 2
    assert "is neither best, last nor the number of a step" in capsys.readouterr().err
    assert asked == {}


def test_a_run_that_does_not_exist_is_refused(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "nowhere"]) == 2
    assert "'nowhere' does not exist" in capsys.readouterr().err
