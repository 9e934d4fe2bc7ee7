"""The contract of every registered evaluation."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch

from tijepa.evaluate.figures import EvaluatedPairs, figures
from tijepa.inference.embeddings import Embeddings, SearchEnergies
from tijepa.registry import entries


def evaluated_pairs(texts: list[str], image_of_text: list[int], images: int) -> EvaluatedPairs:
    """Distinct random images; the energy of a pair is 0 where it belongs together, else 1."""
    owner = torch.tensor(image_of_text)
    energy = 1.0 - torch.nn.functional.one_hot(owner, images).T.float()
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(images, 4, generator=random), torch.randn(len(texts), 4, generator=random)
    return EvaluatedPairs(
        images=torch.rand(images, 3, 2, 2, generator=random),
        texts=texts,
        image_of_text=owner,
        embeddings=Embeddings(rows[0], rows[0], rows[1], rows[1]),
        energy=SearchEnergies(energy, energy),
    )


@pytest.mark.parametrize("name", entries("evaluation"))
def test_an_evaluation_is_pure_and_its_figures_can_be_written(name: str) -> None:
    pairs = evaluated_pairs(["a dog", "a cat", "two cats"], [0, 1, 1], 2)
    before = deepcopy(pairs)
    found = figures([name], pairs)
    assert figures([name], pairs) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [name]
    for old, new in ((before.images, pairs.images), (before.energy.images, pairs.energy.images)):
        assert torch.equal(old, new)
    assert pairs.texts == before.texts
