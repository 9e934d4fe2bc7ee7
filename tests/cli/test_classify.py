from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tijepa.cli import main

PART = {
    "folds": 5,
    "items": 8,
    "accuracy": {"value": 0.75, "low": 0.5, "high": 1.0},
    "f1_weighted": {"value": 0.7, "low": 0.4, "high": 0.9},
    "f1_macro": {"value": 0.6, "low": 0.3, "high": 0.8},
    "majority": 0.5,
    "confusion": [[3, 1], [1, 3]],
}
RESULTS = {
    "label": "mood",
    "classes": ["gloomy", "sunny"],
    "data": "a store",
    "split": "train",
    "items": 8,
    "unlabelled": 2,
    "left_out": {"no text": 1},
    "cross_validation": PART,
    "test": PART,
    "folder": "run/classifiers/mood",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stands in for the room; holds what was asked of it."""
    from tijepa.classify import FitOptions, Tuning

    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    asked: dict[str, Any] = {}

    def noting(result: Any) -> Any:
        def call(*arguments: Any, reporter: Any, **options: Any) -> Any:
            reporter.say("working")
            asked.update(options, arguments=arguments)
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    stand_in = SimpleNamespace(
        FitOptions=FitOptions,
        Tuning=Tuning,
        fit_classifier=noting(RESULTS),
        probe_run=noting(RESULTS),
        predict_labels=noting({"predicted": 1200, "no image": 3}),
        noting=noting,
    )
    import tijepa.classify.fit  # noqa: F401  stays importable beside the stand-in

    monkeypatch.setitem(sys.modules, "tijepa.classify", stand_in)
    return asked


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_help_of_a_part_fits_a_screen(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", verb, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_fit_prints_figures_and_how_to_use_it(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "fit", "run", "my store", "--label", "mood"]) == 0
    assert asked["arguments"] == (Path("run"), "my store", "mood")
    assert asked["options"].tuning is None
    assert asked["options"].folds == 5
    out = capsys.readouterr().out
    assert "8 items of a store, split train, with a label in 'mood'; 2 without" in out
    assert "1 left out (no text)" in out
    assert "75.0" in out
    assert "classify predict run 'my store' --name mood --out predictions.csv" in out


def test_options_reach_the_fit(asked: dict[str, Any]) -> None:
    flags = "--on text --finetune text --layers 1 --epochs 2 --lr 1e-4 --balance --folds 3 --seed 4"
    more = "--copies image --replace --name x --checkpoint best"
    command = ["classify", "fit", "run", "s", "--label", "mood", *flags.split(), *more.split()]
    assert main(command) == 0
    options = asked["options"]
    assert (options.side, options.folds, options.balanced, options.seed) == ("text", 3, True, 4)
    assert vars(options.tuning) == {"tune": "text", "epochs": 2, "lr": 1e-4, "layers": 1}
    assert options.same_text is False
    assert (asked["replace"], asked["name"], asked["checkpoint"]) == (True, "x", "best")


@pytest.mark.parametrize("option", ["--layers", "--epochs", "--lr"])
def test_settings_of_fine_tuning_have_no_effect_without_it(
    option: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "fit", "run", "s", "--label", "mood", option, "1"]) == 2
    assert "no effect without --finetune" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["classify", "fit"], ["probe"]])
def test_json_is_alone_on_stdout(
    verb: list[str], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, "run", "s", "--label", "mood", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == RESULTS
    assert "working" in err


def test_predict_says_how_many_and_where(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "predict", "run", "s", "--name", "m", "--out", "x.csv"]) == 0
    assert asked == {
        "arguments": (Path("run"), "s", Path("x.csv")),
        "name": "m",
        "split": None,
        "everything": False,
    }
    assert "1,200 labels: x.csv; 3 left out (no image)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["fit", "run", "s", "--label", "mood"], "fit_classifier"),
        (["predict", "run", "s", "--name", "m", "--out", "x.csv"], "predict_labels"),
    ],
)
def test_an_interruption_says_that_nothing_was_kept(
    command: list[str], name: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    room = sys.modules["tijepa.classify"]
    setattr(room, name, room.noting(KeyboardInterrupt()))
    assert main(["classify", *command]) == 130
    assert "stopped: nothing was" in capsys.readouterr().err


def test_probe_prints_figures(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--on", "image", "--method", "knn", "--split", "s", "--folds", "3"]
    assert main(["probe", "run", "store", "--label", "mood", *options]) == 0
    assert (asked["side"], asked["method"], asked["split"], asked["folds"]) == (
        "image",
        "knn",
        "s",
        3,
    )
    assert "F1, macro" in capsys.readouterr().out
