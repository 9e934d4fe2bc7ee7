from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tijepa.classify import FitOptions, fit_classifier, predict_labels
from tijepa.classify.saved import Prediction, write_predictions
from tijepa.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def run(tiny_run: Path, tweets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_run / "model", run / "model")
    fit_classifier(run, str(tweets), "mood", options=FitOptions(folds=0))
    return run


def test_items_without_a_label_get_one(run: Path, tweets: Path, tmp_path: Path) -> None:
    """Four of split train and two of test lack a mood; two of train cannot be pairs."""
    out = tmp_path / "moods.csv"
    counts = predict_labels(run, str(tweets), out, name="mood")
    assert counts == {"predicted": 6, "no text": 1, "no image": 1}
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["item"] for row in rows] == [
        *(f"train-{k}.png" for k in range(40, 44)),
        *(f"test-{k}.png" for k in (8, 9)),
    ]
    assert {row["label"] for row in rows} <= {"gloomy", "sunny"}
    assert [row["label"] for row in rows[-2:]] == ["gloomy", "sunny"]
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_json_lines_hold_the_probability_of_every_class(
    run: Path, tweets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "moods.jsonl"
    counts = predict_labels(run, str(tweets), out, name="mood", split="test", everything=True)
    assert counts == {"predicted": 10}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)


def test_another_ending_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"moods\.txt ends with neither \.csv nor \.jsonl"):
        predict_labels(tmp_path, "nowhere", tmp_path / "moods.txt", name="mood")


def test_nothing_to_predict_is_an_error(run: Path, tweets: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    shutil.copytree(tweets, labelled)
    path = labelled / "pairs.jsonl"
    kept = [line for line in path.read_text().splitlines() if '"mood": null' not in line]
    path.write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="lacks a label in 'mood': use `everything=True`"):
        predict_labels(run, str(labelled), tmp_path / "moods.csv", name="mood")
    assert not (tmp_path / "moods.csv").exists()


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "moods.jsonl"
    out.write_text("before")
    with pytest.raises(TypeError):
        write_predictions([Prediction("a", "b", "c", {"c": object()})], out)  # type: ignore[dict-item]
    assert [path.name for path in tmp_path.iterdir()] == ["moods.jsonl"]
    assert out.read_text() == "before"
