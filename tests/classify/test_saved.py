from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tijepa.classify.saved import Classifier, check_name, load_classifier, save_classifier
from tijepa.errors import CheckpointError, ConfigError
from tijepa.evaluate.probes import Examples, fit_linear, fit_perceptron
from tijepa.inference.loading import load
from tijepa.model.saving import load_tensors, save_tensors


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run / "model", tmp_path / "run" / "model")
    return tmp_path / "run"


def classifier(run: Path, kind: str = "linear") -> Classifier:
    generator = torch.Generator().manual_seed(0)
    examples = Examples(
        torch.randn(60, 80, generator=generator), torch.arange(60) % 3, torch.arange(60), 3
    )
    fit: Any = fit_linear if kind == "linear" else fit_perceptron
    head = fit(examples, seed=0)
    return Classifier(load(run), head, "mood", ["a", "b", "c"], "pair", "both")


def save(run: Path, one: Classifier, *, with_model: bool = False, replace: bool = False) -> Path:
    folder = run / "classifiers" / "mood"
    save_classifier(one, folder, {"x": 1}, checkpoint=None, with_model=with_model, replace=replace)
    return folder


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("with_model", [False, True])
def test_a_loaded_classifier_gives_the_same_probabilities(
    run: Path, kind: str, with_model: bool
) -> None:
    saved = classifier(run, kind)
    folder = save(run, saved, with_model=with_model)
    assert (folder / "model.safetensors").exists() == with_model
    loaded = load_classifier(run, "mood")
    features = torch.randn(2, 80, generator=torch.Generator().manual_seed(1))
    expected = saved.probabilities(features)
    assert torch.equal(loaded.probabilities(features), expected)
    assert torch.allclose(expected.sum(dim=1), torch.ones(2, dtype=torch.double))
    assert (loaded.label, loaded.classes, loaded.side) == ("mood", ["a", "b", "c"], "pair")
    assert json.loads((folder / "results.json").read_text()) == {"x": 1}


def test_another_of_the_same_name_is_refused_unless_replaced(run: Path) -> None:
    one = classifier(run)
    save(run, one)
    with pytest.raises(ConfigError, match="exists: choose another `name`, or `replace=True`"):
        save(run, one)
    save(run, one, replace=True)


def test_nothing_is_left_of_a_classifier_that_could_not_be_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CheckpointError("the disk is full")

    monkeypatch.setattr("tijepa.classify.saved.write_json", fail)
    with pytest.raises(CheckpointError):
        save(run, classifier(run))
    assert list((run / "classifiers").iterdir()) == []


def test_a_run_whose_model_has_changed_is_refused(run: Path) -> None:
    save(run, classifier(run))
    path = run / "model" / "model.safetensors"
    weights = load_tensors(path)
    name = sorted(weights)[0]
    save_tensors({**weights, name: weights[name] + 1}, path)
    with pytest.raises(CheckpointError, match="has changed since 'mood' was fitted to it"):
        load_classifier(run, "mood")


def test_an_unknown_classifier_is_named_beside_those_there(run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no classifier 'moods' in .*; it has none"):
        load_classifier(run, "moods")
    save(run, classifier(run))
    with pytest.raises(CheckpointError, match="it has mood"):
        load_classifier(run, "moods")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "head": "x"}'])
def test_a_damaged_card_is_one_line(run: Path, content: str) -> None:
    folder = save(run, classifier(run))
    (folder / "classifier.json").write_text(content)
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        load_classifier(run, "mood")
    assert "\n" not in str(caught.value)


def test_a_head_of_another_kind_is_damage(run: Path) -> None:
    folder = save(run, classifier(run))
    save_tensors({"mean": torch.zeros(2)}, folder / "head.safetensors")
    with pytest.raises(CheckpointError, match=r"head\.safetensors is damaged"):
        load_classifier(run, "mood")


@pytest.mark.parametrize("name", ["", "../x", "a b", ".x", "x" * 65])
def test_what_cannot_be_a_folder_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a classifier"):
        check_name(name)
