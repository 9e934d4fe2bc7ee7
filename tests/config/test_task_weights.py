from __future__ import annotations

import pytest

from tijepa.config import ObjectiveConfig, load_config
from tijepa.config.task_weights import energy_names, pooled_weights, token_weights


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
