"""Objectives that are fixed settings: complete, without idle ones, and not to be contradicted."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tijepa.config import (
    HeadConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    TIJEPAConfig,
    load_config,
)
from tijepa.config.objectives import FIXED, energy_names, pooled_weights, token_weights
from tijepa.config.unused_settings import without_effect
from tijepa.config.yaml_io import covers
from tijepa.errors import ConfigError

FROZEN = ["model.image.backbone=vit", "model.text.backbone=bert"]
NAMED = pytest.mark.parametrize("name", FIXED)


@NAMED
def test_a_named_objective_has_the_settings_of_its_name(name: str) -> None:
    settings = load_config(overrides=[f"objective.name={name}", *FROZEN]).settings()
    assert {key: settings[key] for key in FIXED[name]} == FIXED[name]


@NAMED
def test_what_is_fixed_has_an_effect(name: str) -> None:
    effective = {**RunConfig().settings(), "objective.name": name, **FIXED[name]}
    idle = without_effect(effective.get)
    assert [key for key in FIXED[name] if any(covers(section, key) for section in idle)] == []


def test_a_contradiction_names_value_and_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["objective.name=levljepa", "model.head.hidden=64"])
    assert str(caught.value) == (
        "model.head.hidden is 64, but objective.name 'levljepa' fixes it to 2048: remove it, or use"
        " objective.name=tijepa"
    )


def test_saying_what_is_fixed_anyway_is_allowed() -> None:
    named = load_config(overrides=["objective.name=levljepa"])
    assert load_config(overrides=["objective.name=levljepa", "model.head.hidden=2048"]) == named


def test_a_later_name_drops_what_earlier_layers_set_against_it(tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text("model: {head: {hidden: 64}}\noptim: {lr: 0.5}\n")
    expected = load_config(overrides=["objective.name=levljepa", "optim.lr=0.5"])
    assert load_config(file=file, overrides=["objective.name=levljepa"]) == expected


def test_contradicting_an_earlier_name_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "named.yaml"
    file.write_text("objective: {name: ijepa}\n")
    with pytest.raises(ConfigError, match=r"text_infill is 1, but objective\.name 'ijepa'"):
        load_config(file=file, overrides=["objective.tasks.text_infill=1"])


def test_leaving_a_name_leaves_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "named.yaml"
    file.write_text("objective: {name: levljepa}\n")
    assert load_config(file=file, overrides=["objective.name=tijepa"]) == RunConfig()


def test_python_gets_the_same() -> None:
    made = RunConfig(objective=TIJEPAConfig(name="levljepa"))
    assert made == load_config(overrides=["objective.name=levljepa"])
    with pytest.raises(ValidationError, match="fixes it to 2048"):
        RunConfig(
            objective=TIJEPAConfig(name="levljepa"), model=ModelConfig(head=HeadConfig(hidden=4))
        )


def objective(*settings: str) -> ObjectiveConfig:
    return load_config(overrides=[f"objective.{setting}" for setting in settings]).objective


def test_weights_of_zero_are_left_out() -> None:
    found = objective("tasks.text_to_image={pooled: 0, tokens: 2}", "tasks.text_only=3")
    assert pooled_weights(found) == {"image_to_text": 1.0}
    assert token_weights(found) == {"text_to_image": 2.0, "text_only": 3.0}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([], ["text_to_image/pooled", "image_to_text/pooled"]),
        (["tasks.image_infill=1"], [
            "text_to_image/pooled", "image_to_text/pooled", "image_infill/tokens",
        ]),
        (["name=ijepa"], ["image_only/tokens"]),
        (["name=clip"], []),
        (["name=vicreg"], []),
    ],
)  # fmt: skip
def test_energies_are_named_by_task_and_level(settings: list[str], names: list[str]) -> None:
    assert list(energy_names(objective(*settings))) == names
