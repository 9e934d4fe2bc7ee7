from __future__ import annotations

import pytest
from pydantic import ValidationError

from tijepa.config import OptimConfig, RunConfig, load_config
from tijepa.errors import ConfigError


def _problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed is -1: must be greater than or equal to 0"),
        ("seed=2147483648", "must be less than 2147483648"),
        ("data.image_size=0", "must be greater than or equal to 1"),
        ("data.max_tokens=1", "must be greater than or equal to 2"),
        ("data.vocab_size=63", "must be greater than or equal to 64"),
        ("data.crop_scale=[0, 1]", "crop_scale starts at 0"),
        ("data.crop_scale=[0.9, 0.8]", "the first must not exceed the second"),
        ("data.crop_scale=[0.9, 1.1]", "data.crop_scale.1 is 1.1: must be less than or equal to 1"),
        ("data.threads=-1", "must be greater than or equal to 0"),
        ("data.eval_items=0", "must be greater than or equal to 1"),
        ("data.image_size=65", "data.image_size 65 is not divisible by model.image.patch_size 16"),
        ("model.image={patch_size: 7, stem: linear}", "not divisible by model.image.patch_size 7"),
        ("model.image.patch_size=12", "patch_size 12 is not a power of two, as stem 'conv' needs"),
        ("model.image.heads=3", "width 128 is not divisible by heads 3"),
        ("model.image={width: 130, heads: 2}", "width 130 is not divisible by 4"),
        ("model.text.heads=3", "width 128 is not divisible by heads 3"),
        ("model.text={width: 5, heads: 1}", "width 5 is odd"),
        ("model.text.mlp_ratio=0", "must be greater than 0"),
        ("model.head.depth=-1", "must be greater than or equal to 0"),
        ("objective.energy=l1", "objective.energy 'l1' is unknown (known: "),
        ("objective.tasks.image_infill=-0.5", "must be greater than or equal to 0"),
        ("objective.regularize_image.weight=-1", "must be greater than or equal to 0"),
        ("optim.steps=0", "must be greater than or equal to 1"),
        ("optim.lr=0", "optim.lr is 0: must be greater than 0"),
        ("optim.lr=.inf", "must be a finite number"),
        ("optim.lr=.nan", "must be"),
        ("optim.warmup=1.01", "must be less than or equal to 1"),
        ("optim.betas=[0.9, 1]", "optim.betas.1 is 1: must be less than 1"),
        ("optim.accumulate=3", "batch_size 64 is not divisible by accumulate 3"),
        ("compute.device=gpu", "device 'gpu' is unknown; use auto, cpu, cuda, cuda:N"),
        ("compute.precision=float16", "must be 'auto', 'float32' or 'bfloat16'"),
        (
            "guard={action: stop, patience: 5}",
            "guard.patience 5 exceeds the 4 evaluations of the run, so guard.action 'stop' never",
        ),
        ("log.every=0", "must be greater than or equal to 1"),
    ],
)
def test_every_bound_is_named(override: str, message: str) -> None:
    assert message in _problem(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("masks.text_hidden=0", "must be greater than 0"),
        ("masks.text_hidden=1", "must be less than 1"),
        ("masks.text_span=0", "must be greater than or equal to 1"),
        ("masks.target_scale=[0, 0.2]", "must be greater than 0"),
        ("masks.target_scale=[0.3, 0.2]", "the first must not exceed the second"),
        ("masks.target_aspect=[2, 1.0]", "the first must not exceed the second"),
        ("masks.context_scale=[0.5, 1.5]", "must be less than or equal to 1"),
        ("masks.target_blocks=0", "must be greater than or equal to 1"),
    ],
)
def test_every_bound_of_masks_is_named(override: str, message: str) -> None:
    tasks = ["objective.tasks.image_infill=1", "objective.tasks.text_infill=1"]
    assert message in _problem(*tasks, f"objective.{override}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.steps=true", "optim.steps is True: must be a whole number"),
        ("optim.steps=1.5", "must be a whole number"),
        ("optim.lr=fast", "optim.lr is 'fast': must be a valid number"),
        ("optim.lr=", "optim.lr is None"),
        ("optim.betas=0.9", "must be a pair, e.g. optim.betas=[0.9, 0.95]"),
        ("optim.betas=[0.9]", "must be a pair"),
        ("optim.betas=[0.9, 0.9, 0.9]", "must be a pair"),
        ("data.flip=1", "must be a valid boolean"),
        ("data.source=7", "must be a valid string"),
        ("optim=3", "it is a section: set one of its keys, e.g. optim.steps"),
    ],
)
def test_a_value_of_another_type_is_refused(override: str, message: str) -> None:
    assert message in _problem(override)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:1"])
def test_known_devices_are_accepted(device: str) -> None:
    assert load_config(overrides=[f"compute.device={device}"]).compute.device == device


def test_an_objective_without_any_weight_is_refused() -> None:
    tasks = "objective.tasks={text_to_image: {pooled: 0}, image_to_text: {pooled: 0.0}}"
    assert "every task has weight 0" in _problem(tasks)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().optim.lr = 1.0  # type: ignore[misc]


def test_lists_become_tuples_in_python_too() -> None:
    assert OptimConfig.model_validate({"betas": [0.5, 0.6]}).betas == (0.5, 0.6)


def test_settings_lists_every_leaf_by_its_dotted_key() -> None:
    values = RunConfig.model_validate({"seed": 3, "objective": {"energy": "cosine"}}).settings()
    assert values["seed"] == 3
    assert values["objective.energy"] == "cosine"
    assert values["objective.tasks.text_to_image.pooled"] == 1.0
    assert not any(isinstance(value, dict) for value in values.values())
