from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tijepa.config import RunConfig
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError
from tijepa.evaluate.detect import Track
from tijepa.inference.results import Rollback
from tijepa.model.saving import ModelCard, load_tensors, read_json, save_tensors
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective
from tijepa.training import checkpoint as checkpoint_module
from tijepa.training.build import build_model, build_objective, model_arguments
from tijepa.training.checkpoint import Checkpoints, RunState
from tijepa.training.optimizer import build_optimizer

FILES = {
    "model.json",
    "model.safetensors",
    "objective.safetensors",
    "optimizer.safetensors",
    "state.json",
    "tokenizer.json",
}


@dataclass
class Trained:
    """A small CLIP model (its objective has a parameter) with moments in its optimizer."""

    model: TextImageModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    card: ModelCard
    tokenizer: Tokenizer

    @classmethod
    def of(cls, config: RunConfig) -> Trained:
        tokenizer = Tokenizer.train(["a red ball", "a blue cube"], 64)
        model = build_model(config, tokenizer.vocab_size)
        objective = build_objective(config)
        optimizer = build_optimizer([model, objective], lr=1e-3, betas=(0.9, 0.95))
        card = ModelCard(model_arguments(config, tokenizer.vocab_size), "clip", 32, 16)
        return cls(model, objective, optimizer, card, tokenizer)

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()

    def save(self, checkpoints: Checkpoints, state: RunState) -> Path:
        return checkpoints.save(
            state, self.model, self.objective, self.optimizer, self.card, self.tokenizer, None
        )

    def restore(self, checkpoints: Checkpoints, path: Path) -> RunState:
        return checkpoints.restore(path, self.model, self.objective, self.optimizer)


@pytest.fixture
def make(tiny_config: Callable[..., RunConfig]) -> Callable[..., Trained]:
    return lambda *overrides: Trained.of(tiny_config("objective.name=clip", *overrides))


@pytest.fixture
def trained(make: Callable[..., Trained]) -> Trained:
    trained = make()
    trained.step()
    return trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_is_complete_and_comes_back_exactly(
    trained: Trained, make: Callable[..., Trained], folder: Path
) -> None:
    state = RunState(step=7, cursor=56, best_step=7, best_recall=0.1 + 0.2)
    path = trained.save(Checkpoints(folder, 2), state)
    assert {file.name for file in path.iterdir()} == FILES
    other = make("seed=5")
    assert other.restore(Checkpoints(folder, 2), path) == state
    for one, two in ((trained.model, other.model), (trained.objective, other.objective)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
    assert (
        "log_scale" in str(list(trained.objective.state_dict())) or trained.objective.state_dict()
    )
    trained.step()
    other.step()
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_the_last_ones_and_the_best_are_kept(trained: Trained, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 2)
    state = RunState(step=0, cursor=0)
    for step in range(1, 7):
        state = replace(state, step=step, cursor=8 * step)
        if step == 2:
            state = replace(state, best_step=2, best_recall=0.5)
        trained.save(checkpoints, state)
    assert names(folder) == ["best.json", "step-00000002", "step-00000005", "step-00000006"]
    assert read_json(folder / "best.json") == {"step": 2, "recall": 0.5}
    assert checkpoints.last() == folder / "step-00000006"
    trained.save(checkpoints, RunState(step=7, cursor=56, best_step=7, best_recall=0.6))
    assert names(folder) == ["best.json", "step-00000006", "step-00000007"]
    assert read_json(folder / "best.json")["step"] == 7


def test_the_last_healthy_one_is_kept_too(trained: Trained, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 1)
    state = RunState(step=0, cursor=0, best_step=1, best_recall=0.5, healthy_step=2)
    for step in range(1, 5):
        trained.save(checkpoints, replace(state, step=step, cursor=8 * step))
    assert names(folder) == ["best.json", "step-00000001", "step-00000002", "step-00000004"]


def test_going_back_makes_an_earlier_checkpoint_the_last_and_keeps_its_weights(
    trained: Trained, make: Callable[..., Trained], folder: Path
) -> None:
    checkpoints = Checkpoints(folder, 2)
    healthy = RunState(step=2, cursor=16, healthy_step=2)
    path = trained.save(checkpoints, healthy)
    weights = (path / "model.safetensors").read_bytes()
    trained.step()
    trained.save(checkpoints, replace(healthy, step=3, cursor=24))
    gone_back = replace(
        healthy,
        tracks={"text": Track(1, 2, True, {"rank": [3.0]}, {"rank": 9.5})},
        rollbacks=(Rollback(4, 2, "text embeddings are nearly the same"),),
    )
    checkpoints.rewind(gone_back)
    assert names(folder) == ["step-00000002"]
    assert (path / "model.safetensors").read_bytes() == weights
    assert make("seed=5").restore(Checkpoints(folder, 2), path) == gone_back


def test_a_process_killed_while_going_back_resumes_on_the_abandoned_branch(
    trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier checkpoint is marked, the later one not yet deleted: the newest is the last."""
    checkpoints = Checkpoints(folder, 2)
    state = RunState(step=2, cursor=16, healthy_step=2)
    trained.save(checkpoints, state)
    later = trained.save(checkpoints, replace(state, step=3, cursor=24))
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_settle", lambda self, state: None)
        checkpoints.rewind(replace(state, rollbacks=(Rollback(4, 2, "why"),)))
    opened = Checkpoints(folder, 2)
    assert opened.last() == later
    assert trained.restore(opened, later) == replace(state, step=3, cursor=24)


def test_without_a_best_there_is_no_pointer(trained: Trained, folder: Path) -> None:
    trained.save(Checkpoints(folder, 1), RunState(step=1, cursor=8))
    assert names(folder) == ["step-00000001"]


def test_order_is_by_number_beyond_eight_digits(trained: Trained, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 1)
    trained.save(checkpoints, RunState(step=99_999_999, cursor=0))
    trained.save(checkpoints, RunState(step=100_000_000, cursor=0))
    assert names(folder) == ["step-100000000"]
    assert checkpoints.last() == folder / "step-100000000"


def test_what_does_not_bear_the_name_of_a_checkpoint_is_left_alone(
    trained: Trained, folder: Path
) -> None:
    (folder / "step-mine").mkdir(parents=True)
    checkpoints = Checkpoints(folder, 1)
    assert checkpoints.last() is None
    trained.save(checkpoints, RunState(step=1, cursor=8))
    assert names(folder) == ["step-00000001", "step-mine"]


CALLS = 12  # ∑ of both writes and all renames in one save that replaces a folder


def fail_at(number: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The n-th of the renames and writes of a save fails."""
    calls: list[Any] = []

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == number:
                raise error
            return function(*arguments)

        return call

    for name in ("save_tensors", "write_json"):
        monkeypatch.setattr(checkpoint_module, name, failing(getattr(checkpoint_module, name)))
    monkeypatch.setattr(checkpoint_module.os, "replace", failing(os.replace))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_a_save_that_fails_anywhere_leaves_a_checkpoint_to_resume_from(
    number: int,
    error: BaseException,
    trained: Trained,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writing step 2 anew while it is the only checkpoint: no failure may lose it."""
    state = RunState(step=2, cursor=16, best_step=2, best_recall=0.5)
    checkpoints = Checkpoints(folder, 1)
    trained.save(checkpoints, state)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with monkeypatch.context() as patch:
        fail_at(number, patch, error)
        with pytest.raises(expected):
            trained.save(checkpoints, state)
    opened = Checkpoints(folder, 1)
    assert [name for name in names(folder) if name.startswith(".")] == []
    last = opened.last()
    assert last == folder / "step-00000002"
    assert {file.name for file in last.iterdir()} == FILES
    assert trained.restore(opened, last) == state


def test_a_process_killed_between_two_renames_loses_nothing(trained: Trained, folder: Path) -> None:
    """The old folder is aside, the new one complete but not yet named."""
    path = trained.save(Checkpoints(folder, 1), RunState(step=2, cursor=16))
    shutil.copytree(path, folder / f".step-00000002.{os.getpid()}.tmp")
    path.rename(folder / f".step-00000002.replaced.{os.getpid()}.tmp")
    assert Checkpoints(folder, 1).last() == path
    assert names(folder) == ["step-00000002"]
    assert {file.name for file in path.iterdir()} == FILES


def test_a_process_killed_before_it_wrote_the_best_pointer_writes_it_when_resumed(
    trained: Trained, folder: Path
) -> None:
    checkpoints = Checkpoints(folder, 1)
    trained.save(checkpoints, RunState(step=1, cursor=8, best_step=1, best_recall=0.25))
    kept = shutil.copytree(folder / "step-00000001", folder.parent / "kept")
    path = trained.save(checkpoints, RunState(step=2, cursor=16, best_step=2, best_recall=0.5))
    shutil.copytree(kept, folder / "step-00000001")
    (folder / "best.json").write_text(json.dumps({"step": 1, "recall": 0.25}))
    trained.restore(Checkpoints(folder, 1), path)
    assert read_json(folder / "best.json") == {"step": 2, "recall": 0.5}
    assert names(folder) == ["best.json", "step-00000002"]


def test_a_model_of_another_shape_is_refused_with_the_names(
    trained: Trained, make: Callable[..., Trained], folder: Path
) -> None:
    checkpoints = Checkpoints(folder, 1)
    path = trained.save(checkpoints, RunState(step=1, cursor=8))
    with pytest.raises(CheckpointError, match=r"is of another shape: .* is \[.*\] there and \["):
        make("model.embed_dim=12").restore(checkpoints, path)


def test_moments_of_another_shape_are_refused(trained: Trained, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 1)
    path = trained.save(checkpoints, RunState(step=1, cursor=8))
    moments = load_tensors(path / "optimizer.safetensors")
    moments["0.exp_avg"] = torch.zeros(3, 3)
    save_tensors(moments, path / "optimizer.safetensors")
    with pytest.raises(CheckpointError, match=r"optimizer state 0\.exp_avg does not fit"):
        trained.restore(checkpoints, path)


@pytest.mark.parametrize("name", sorted(FILES - {"model.json", "tokenizer.json"}))
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_file_is_named(name: str, damage: str, trained: Trained, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 1)
    path = trained.save(checkpoints, RunState(step=1, cursor=8))
    file = path / name
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:9])
    else:
        file.write_text("[1, 2]")
    with pytest.raises(CheckpointError) as raised:
        trained.restore(checkpoints, path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
