from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tijepa.config import RunConfig, load_config
from tijepa.errors import DataError
from tijepa.model.saving import load_tensors, read_json
from tijepa.training import DryRun, dry_run
from tijepa.training.dry_run import _Meter

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def planned(tiny_config: Configure) -> DryRun:
    return dry_run(tiny_config())


def test_parameters_are_those_of_a_run(planned: DryRun, tiny_run: Path) -> None:
    assert planned.parameters == read_json(tiny_run / "environment.json")["parameters"]


def test_memory_is_four_floats_for_each_parameter_and_one_for_each_buffer(
    planned: DryRun, tiny_run: Path
) -> None:
    """Without targets: weight, gradient, two moments, 16 bytes; buffers are stored once."""
    stored = load_tensors(tiny_run / "model/model.safetensors")
    held = sum(value.numel() * value.element_size() for value in stored.values())
    trained = sum(planned.parameters.values())
    assert planned.memory == held + 12 * trained


def test_targets_are_counted_as_weights_alone(tiny_config: Configure, planned: DryRun) -> None:
    """EMA copies of encoders and heads have no gradient and no moments."""
    with_targets = dry_run(tiny_config("objective.pooled_targets=ema"))
    assert with_targets.parameters == planned.parameters
    copied = sum(count for name, count in planned.parameters.items() if name != "predictors")
    added = with_targets.memory - planned.memory
    assert 4 * copied <= added < 4 * copied * 1.2  # the rest are buffers


def test_the_towers_have_the_threads_that_the_run_will_have(
    tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread in all leaves none to share out, whatever torch had before."""
    module = sys.modules["tijepa.training.dry_run"]
    step, found = module.training_step, []

    def noting(*arguments: Any, **keywords: Any) -> Any:
        found.append(keywords["compute"].tower_threads)
        return step(*arguments, **keywords)

    monkeypatch.setattr(module, "training_step", noting)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        dry_run(tiny_config("compute.threads=1"))
    finally:
        torch.set_num_threads(before)
    assert set(found) == {0}


def test_activations_of_a_quarter_of_a_batch_are_about_a_quarter(tiny_config: Configure) -> None:
    """Batch 64 in one part or in four; the pooled tokens of all 64 stay, small beside it."""
    plain = ["objective.regularize_image.name=none", "objective.regularize_text.name=none"]
    whole, quarters = (
        dry_run(tiny_config(*plain, "optim.batch_size=64", f"optim.accumulate={k}")).activations
        for k in (1, 4)
    )
    assert 0.2 * whole < quarters < 0.4 * whole


def test_gradient_checkpointing_keeps_less(tiny_config: Configure) -> None:
    """Only the input of a block instead of everything in it; four blocks, no regularizer."""
    plain = ["objective.regularize_image.name=none", "objective.regularize_text.name=none"]
    deep = [*plain, "model.image.depth=4", "model.text.depth=4"]
    everything, inputs = (
        dry_run(tiny_config(*deep, f"compute.gradient_checkpointing={flag}")).activations
        for flag in ("false", "true")
    )
    assert inputs < 0.4 * everything


def test_what_autograd_keeps_of_a_small_graph_is_counted_by_hand() -> None:
    """exp keeps its result, tanh its own: two tensors of 100 floats until backward, then none."""
    meter = _Meter(set())
    x = torch.zeros(100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(meter.keep, lambda kept: kept.tensor):
        for _ in range(2):  # one after the other: the peak is that of one
            x.exp().tanh().sum().backward()  # type: ignore[no-untyped-call]
    assert meter.peak == 800
    ignoring = _Meter({x.untyped_storage().data_ptr()})
    with torch.autograd.graph.saved_tensors_hooks(ignoring.keep, lambda kept: kept.tensor):
        (x * x).sum().backward()  # type: ignore[no-untyped-call]
    assert ignoring.peak == 0


def test_activations_at_least_hold_the_tokens_of_every_layer(planned: DryRun) -> None:
    """8 pairs, 16 patches and 16 tokens of width 16, float32, and the MLP's four times as wide."""
    tokens = 8 * (16 + 16) * 16 * 4
    assert planned.activations > 5 * tokens
    assert planned.activations < 200 * tokens


def test_time_is_the_measured_time_of_a_step_times_the_steps(
    tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that moves by half a second whenever it is read: a step takes half a second."""
    readings = itertools.count(0.0, 0.5)
    clock = SimpleNamespace(perf_counter=lambda: next(readings))
    monkeypatch.setattr(sys.modules["tijepa.training.dry_run"], "time", clock)
    assert dry_run(tiny_config("optim.steps=100")).seconds == 50.0


def test_the_text_is_the_configuration_with_the_cost_in_comments(
    planned: DryRun, tiny_config: Configure, tmp_path: Path
) -> None:
    text = planned.to_text()
    path = tmp_path / "planned.yaml"
    path.write_text(text)
    assert load_config(file=path) == tiny_config()
    assert "train 32, validation 12, test 12" in text
    assert f"# parameters  {sum(planned.parameters.values()):,} trained" in text
    assert "for 6 steps on cpu in float32" in text


def test_nothing_is_written(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dry_run(tiny_config())
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there_are_an_error_as_in_a_run(
    tiny_config: Configure, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="does not exist"):
        dry_run(tiny_config(f"data.source={json.dumps(str(tmp_path / 'none'))}"))
