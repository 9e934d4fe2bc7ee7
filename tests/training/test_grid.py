"""Every combination once, under a readable name, and mistakes before anything runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.config.yaml_io import read_yaml
from tijepa.errors import ConfigError
from tijepa.training.grid import cells_of, parse_axis


def cells(*grid: str, **options: Any) -> list[Any]:
    return cells_of([parse_axis(text) for text in grid], **options)


def test_the_last_axis_runs_fastest_and_names_say_what_differs() -> None:
    made = cells("optim.lr=1e-3,5e-4", "seed=0,1")
    assert [cell.name for cell in made] == [
        "lr=0.001,seed=0",
        "lr=0.001,seed=1",
        "lr=0.0005,seed=0",
        "lr=0.0005,seed=1",
    ]
    assert [(cell.config.optim.lr, cell.config.seed) for cell in made] == [
        (1e-3, 0), (1e-3, 1), (5e-4, 0), (5e-4, 1),
    ]  # fmt: skip
    assert made[3].values == {"optim.lr": 5e-4, "seed": 1}


def test_values_may_be_lists_and_names() -> None:
    made = cells("optim.betas=[0.9, 0.95],[0.8, 0.9]", "objective.name=tijepa,clip")
    assert [cell.config.optim.betas for cell in made] == [(0.9, 0.95)] * 2 + [(0.8, 0.9)] * 2
    assert [cell.config.objective.name for cell in made] == ["tijepa", "clip"] * 2
    assert made[1].name == "betas=0.9_0.95,name=clip"


def test_labels_are_as_long_as_needed_to_tell_axes_apart() -> None:
    made = cells("model.image.depth=1", "model.text.depth=2", "optim.steps=3")
    assert made[0].name == "image.depth=1,text.depth=2,steps=3"


def test_fixed_overrides_hold_in_every_run() -> None:
    made = cells("seed=0,1", preset="scenes", overrides=["optim.steps=7"])
    assert {cell.config.optim.steps for cell in made} == {7}
    assert made[0].overrides == ("optim.steps=7", "seed=0")


def test_without_axes_there_is_one_run() -> None:
    [only] = cells(overrides=["optim.steps=7"])
    assert only.name == "run"


@pytest.mark.parametrize(
    ("grid", "overrides", "message"),
    [
        (["optim.lr"], [], "is not of the form"),
        (["optim.lr="], [], "is not of the form"),
        (["optim.lr=[1"], [], "no list of YAML values"),
        (["seed=0,1,0"], [], "holds 0 twice"),
        (["seed=0", "seed=1"], [], "seed is given twice"),
        (["seed=0,1"], ["seed=3"], "seed is given and has a grid"),
        (["optim.lr=1e-3,-1"], [], "lr=-1: optim.lr is -1: must be greater than 0"),
        (
            ["objective.name=tijepa,clip"],
            ["objective.energy=cosine"],
            "name=clip: objective.energy",
        ),
    ],
)
def test_mistakes_are_one_line(grid: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(*grid, overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text("ab c-")
)


@given(values=st.lists(VALUES, min_size=1, max_size=4, unique_by=repr))
def test_written_values_read_back(values: list[Any]) -> None:
    axis = parse_axis(f"key={json.dumps(values)[1:-1]}")
    assert [read_yaml(written) for written in axis.values] == values
