from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tijepa.classify import FitOptions, Tuning, fit_classifier, load_classifier
from tijepa.errors import ConfigError


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run / "model", tmp_path / "run" / "model")
    return tmp_path / "run"


def fit(run: Path, tweets: Path, **options: Any) -> dict[str, Any]:
    return fit_classifier(run, str(tweets), "mood", options=FitOptions(folds=4, **options))


def test_what_gives_itself_away_is_found_in_every_fold(run: Path, tweets: Path) -> None:
    """40 labelled tweets, one pair of equal texts and one of equal images among them."""
    results = fit(run, tweets)
    found = results["cross_validation"]
    assert (results["items"], results["copies"], results["unlabelled"]) == (40, 2, 4)
    assert results["left_out"] == {"no text": 1, "no image": 1}
    assert (found["folds"], found["items"]) == (4, 40)
    assert found["accuracy"]["value"] > 0.9
    assert sum(map(sum, found["confusion"])) == 40
    assert results["test"]["items"] == 8
    assert results["test"]["accuracy"]["value"] > 0.9
    folder = run / "classifiers" / "mood"
    assert results["folder"] == str(folder)
    saved = json.loads((folder / "results.json").read_text())
    assert saved == {name: value for name, value in results.items() if name != "folder"}


def test_without_folds_only_the_test_split_is_measured(run: Path, tweets: Path) -> None:
    options = FitOptions(folds=0, side="text", head="mlp", parts="encoders", balanced=True)
    results = fit_classifier(run, str(tweets), "mood", name="words", options=options)
    assert "cross_validation" not in results
    assert results["test"]["items"] == 8
    assert load_classifier(run, "words").side == "text"


def test_fine_tuning_keeps_its_own_encoders(run: Path, tweets: Path) -> None:
    results = fit_classifier(
        run,
        str(tweets),
        "mood",
        options=FitOptions(folds=2, side="text", tuning=Tuning("text", 1, 1e-2)),
    )
    assert results["finetune"] == {"tune": "text", "epochs": 1, "lr": 1e-2, "layers": None}
    assert results["cross_validation"]["items"] == 41, "one text has no image"
    assert (run / "classifiers" / "mood" / "model.safetensors").exists()
    assert load_classifier(run, "mood").side == "text"


def test_a_name_that_is_taken_is_refused_before_anything_is_done(run: Path, tweets: Path) -> None:
    (run / "classifiers" / "mood").mkdir(parents=True)
    with pytest.raises(ConfigError, match="exists"):
        fit_classifier(run, "nowhere at all", "mood")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FitOptions(folds=1), "folds is 1: it must be 0"),
        (FitOptions(folds=-1), "folds is -1"),
        (FitOptions(head="mlp", tuning=Tuning("text", 1, 1e-3)), "has a linear head"),
        (FitOptions(side="image", tuning=Tuning("text", 1, 1e-3)), "no effect with `side=image`"),
    ],
)
def test_options_that_contradict_are_refused(options: FitOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options.check()
