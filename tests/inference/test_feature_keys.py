from __future__ import annotations

from typing import Any

import pytest
import torch

from tijepa.inference.feature_keys import feature_key, image_inputs

BASE: dict[str, Any] = {
    "arguments": {"width": 8, "mode": "frozen", "layers": 1, "rank": 4},
    "inputs": image_inputs(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "tokens": False,
    "precision": torch.float32,
    "weights": 1.0,
}


def key(**changes: Any) -> str:
    made = BASE | changes
    part = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(part.weight, made.pop("weights"))
    torch.nn.init.zeros_(part.bias)
    return feature_key(part, **made)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": BASE["arguments"] | {"width": 16}},
        {"inputs": image_inputs(48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))},
        {"inputs": image_inputs(32, (0.5, 0.5, 0.4), (0.25, 0.25, 0.25))},
        {"tokens": True},
        {"precision": torch.bfloat16},
        {"weights": 2.0},
    ],
)
def test_whatever_changes_the_features_changes_the_key(change: dict[str, Any]) -> None:
    assert key() == key()
    assert key(**change) != key()


def test_how_an_encoder_is_trained_does_not_change_what_it_gives() -> None:
    arguments = {"width": 8, "mode": "lora", "layers": 2, "rank": 8}
    assert key(arguments=arguments) == key()
