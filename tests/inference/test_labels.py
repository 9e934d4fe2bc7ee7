from __future__ import annotations

import pytest
import torch

from tijepa.errors import DataError
from tijepa.inference.inputs import energy_of_labels, prompt_list


def test_the_energy_of_a_label_is_the_mean_over_its_prompts() -> None:
    """Labels of 2 and 1 prompts: (1 + 3) / 2 = 2 and 7; (0 + 5) / 2 = 2.5 and -1."""
    energy = torch.tensor([[1.0, 3.0, 7.0], [0.0, 5.0, -1.0]])
    expected = torch.tensor([[2.0, 7.0], [2.5, -1.0]])
    assert torch.equal(energy_of_labels(energy, [2, 1]), expected)


def test_a_single_prompt_may_stand_for_itself() -> None:
    assert prompt_list({"cat": "a cat", "dog": ("a dog", "a puppy")}) == [
        ["a cat"],
        ["a dog", "a puppy"],
    ]


def test_labels_without_prompts_are_errors() -> None:
    with pytest.raises(DataError, match="there are no labels"):
        prompt_list({})
    with pytest.raises(DataError, match="label 'dog' has no prompt"):
        prompt_list({"cat": "a cat", "dog": []})
