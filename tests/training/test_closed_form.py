"""A run in closed form: solved in one pass, and then a run like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tijepa
from tijepa.config import RunConfig, load_config
from tijepa.errors import ConfigError
from tijepa.inference.results import RunResults
from tijepa.training import train

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def configure(backbones: dict[str, Path], pairs_folder: Path) -> Configure:
    settings = [
        f"data.source={json.dumps(str(pairs_folder))}",
        *(f"model.{modality}.backbone={folder}" for modality, folder in backbones.items()),
        *["objective.name=closed_form", "model.embed_dim=6", "data.max_tokens=16"],
        *["compute.device=cpu", "compute.precision=float32", "compute.threads=1"],
        "log.tensorboard=false",
    ]
    return lambda *overrides: load_config(overrides=[*settings, *overrides])


@pytest.fixture(scope="module")
def run(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(configure(), tmp_path_factory.mktemp("runs") / "solved")


@pytest.fixture(scope="module")
def trained(
    backbones: dict[str, Path], pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Heads on the same frozen encoders, by a few steps."""
    settings = [
        f"data.source={json.dumps(str(pairs_folder))}",
        *(f"model.{modality}.backbone={folder}" for modality, folder in backbones.items()),
        *["model.embed_dim=6", "data.max_tokens=16", "model.head.hidden=8", "optim.steps=4"],
        *["compute.device=cpu", "compute.precision=float32", "compute.threads=1"],
        *["model.pooled_predictor.hidden=8", "optim.batch_size=8", "log.tensorboard=false"],
    ]
    config = load_config(overrides=settings)
    return train(config, tmp_path_factory.mktemp("runs") / "trained")


def results_of(run: Path) -> RunResults:
    return RunResults.from_json(json.loads((run / "results.json").read_text()))


def test_it_takes_no_step_and_is_judged_and_reported_like_any_run(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("eval", 0)]
    found = results_of(run)
    assert found.form == "calibrated"
    assert found.retrieval is not None
    assert found.retrieval.num_images == 12
    assert found.match_probability is not None
    assert found.closed_form is None  # it would be itself
    assert "closed_form" in (run / "report.html").read_text()
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000000"]


def test_the_model_is_loaded_and_searches_by_the_inner_product_of_its_rows(
    run: Path, pairs_folder: Path
) -> None:
    """A row has a half for each search: what is kept of the regression, and 2 numbers."""
    model = tijepa.load(run)
    assert model.calibration is not None
    assert model.calibration.heads is None
    images = [pairs_folder / f"test-{k}.png" for k in range(3)]
    texts = ["a red circle", "a blue square above it"]
    row, column = (
        model.encode_image(images, form="calibrated"),
        model.encode_text(texts, form="calibrated"),
    )
    torch.testing.assert_close(-row @ column.T, model.energy(images, texts), rtol=1e-3, atol=1e-4)
    kept = len(model.calibration.direct.to_text.predicted_whiten)  # type: ignore[union-attr]
    assert row.shape[1] == 2 * (kept + 2)
    assert bool(torch.isfinite(model.energy(images, texts, form="cosine")).all())


def test_a_second_run_is_the_same_model(configure: Configure, run: Path, tmp_path: Path) -> None:
    again = train(configure(), tmp_path / "again")
    for name in ("model.safetensors", "calibration.safetensors"):
        assert (run / "model" / name).read_bytes() == (again / "model" / name).read_bytes()
    assert results_of(again).retrieval == results_of(run).retrieval


def test_a_trained_run_says_what_it_added_over_the_closed_form(run: Path, trained: Path) -> None:
    """Which is what the run in closed form finds, on the same pairs from the same features."""
    found, solved = results_of(trained), results_of(run).retrieval
    assert solved is not None
    assert found.retrieval is not None
    assert found.closed_form == solved
    assert found.added is not None
    for direction, added in found.added.items():
        own, other = (one.directions[direction] for one in (found.retrieval, solved))
        assert added == own.recall_at_1 - other.recall_at_1
    page = (trained / "report.html").read_text()
    assert "closed form, nothing trained" in page
    assert "Training added over the closed form, in points of R@1: " in page
    assert tijepa.evaluate(trained).closed_form == solved
    both = tijepa.compare([run, trained]).runs
    assert [one.added for one in both] == [None, found.added]


def test_resuming_it_changes_nothing(run: Path) -> None:
    before = results_of(run)
    tijepa.train(out=run, resume=True)
    assert results_of(run).retrieval == before.retrieval


def test_from_python_it_trains_evaluates_and_searches(
    backbones: dict[str, Path], pairs_folder: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "pairs.lance")
    tijepa.prepare(str(pairs_folder), store)
    settings: dict[str, Any] = {
        "objective__name": "closed_form",
        "model__embed_dim": 6,
        "data__max_tokens": 16,
        "log__tensorboard": False,
        **{f"model__{modality}__backbone": str(path) for modality, path in backbones.items()},
    }
    found = tijepa.train(store, out=tmp_path / "run", **settings)
    tijepa.index(found.path, store)
    answer = tijepa.search(found.path, store, "a red circle")
    assert len(answer.hits) > 0


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("optim.lr=1e-3", "optim.lr has no effect because objective.name is 'closed_form'"),
        ("optim.steps=10", "optim.steps has no effect"),
        ("log.eval_every=10", "log.eval_every has no effect"),
        ("guard.action=stop", "guard.action has no effect"),
        ("data.flip=true", "data.flip has no effect"),
        ("data.cache_features=false", "data.cache_features has no effect"),
        ("model.head.skip=true", "model.head.skip has no effect"),
        ("model.head.depth=1", "objective.name 'closed_form' fixes it to 0"),
        ("model.image.train=full", "stands on frozen pretrained encoders: set model.image"),
        ("model.text.backbone=null", "set model.text.backbone"),
    ],
)
def test_what_would_have_no_effect_is_an_error(
    configure: Configure, setting: str, told: str
) -> None:
    with pytest.raises(ConfigError) as error:
        configure(setting)
    assert told in str(error.value)


def test_more_dimensions_than_are_shared_are_an_error(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.embed_dim is 500, and there are at most \d+"):
        train(configure("model.embed_dim=500"), tmp_path / "wide")


def test_pairs_that_lie_in_no_store_are_an_error(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reads the cached features of a store, and scenes is"):
        train(configure("data.source=scenes", "data.image_size=32"), tmp_path / "scenes")
