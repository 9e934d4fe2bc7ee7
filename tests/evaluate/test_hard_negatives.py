from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import tijepa
from tijepa.data.scenes import Scenes
from tijepa.data.scenes.wording import (
    exchange_hard_negative,
    invert_hard_negative,
    swap_hard_negative,
)
from tijepa.errors import DataError
from tijepa.evaluate.grounding import KINDS, accuracy, hard_negatives
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embeddings


def test_only_a_strictly_lower_energy_of_the_true_caption_is_right() -> None:
    """Lower, equal, higher and not a number: one of four."""
    true = torch.tensor([1.0, 2.0, 3.0, torch.nan])
    false = torch.tensor([2.0, 2.0, 2.0, 2.0])
    assert asdict(accuracy(true, false)) == {"accuracy": 0.25, "pairs": 4}


class Knowing(Embedder):
    """Gives each pair as energy whether its text is false of its image, by a list of truths."""

    def embeddings_of_inputs(
        self, inputs: torch.Tensor, texts: object, *, batch_size: int = 256
    ) -> Embeddings:
        assert isinstance(texts, list)
        self.asked = texts
        value = torch.tensor([[float(text not in self.truths)] for text in texts])
        zeros = torch.zeros(len(inputs), 1)
        return Embeddings(zeros, zeros, value, value)

    def energy_of(self, e: Embeddings, form: str) -> torch.Tensor:
        return e.text.T.expand(len(e.image), -1)


@pytest.fixture
def knowing(tiny_run: Path) -> Knowing:
    plain = tijepa.load(tiny_run)
    return Knowing(plain.model, plain.tokenizer, plain.card, plain.calibration)


def test_a_model_that_knows_the_truth_is_always_right(knowing: Knowing) -> None:
    scenes = Scenes("test", 30, image_size=32)
    knowing.truths = {caption for i in range(30) for caption in scenes.captions(i)}
    found = hard_negatives(knowing, scenes, 30)
    related = sum(scenes.scene(i).relation is not None for i in range(30))
    assert 0 < related < 30
    assert {name: result.pairs for name, result in found.items()} == dict.fromkeys(KINDS, related)
    assert {result.accuracy for result in found.values()} == {1.0}


def test_a_model_that_ignores_relations_is_wrong_there_alone(knowing: Knowing) -> None:
    """Of two circles, exchanging the colours is exchanging the objects, so that is not seen."""
    scenes = Scenes("test", 20, image_size=32)
    knowing.truths = set()
    for i in range(20):
        scene, wording = scenes.scene(i), i % 5
        if scene.relation is not None:
            knowing.truths |= {
                scenes.captions(i)[wording],
                invert_hard_negative(scene, wording),
                exchange_hard_negative(scene, wording),
            }
    found = hard_negatives(knowing, scenes, 20)
    assert (found["predicate"].accuracy, found["exchange"].accuracy) == (0.0, 0.0)
    swapped = [
        swap_hard_negative(scenes.scene(i), i % 5)
        for i in range(20)
        if scenes.scene(i).relation is not None
    ]
    right = [caption not in knowing.truths for caption in swapped]
    assert found["attributes"].accuracy == sum(right) / len(right) > 0.8


def test_scenes_without_two_objects_are_refused(knowing: Knowing) -> None:
    scenes = Scenes("test", 30, image_size=32)
    first = next(i for i in range(30) if scenes.scene(i).relation is None)
    alone = Scenes("test", 30, image_size=32)
    alone.scene = lambda index: scenes.scene(first)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="none of 3 scenes has two objects"):
        hard_negatives(knowing, alone, 3)


def test_a_model_without_any_difference_gets_nothing(knowing: Knowing) -> None:
    knowing.truths = set()
    found = hard_negatives(knowing, Scenes("novel", 10, image_size=32), 10)
    assert {result.accuracy for result in found.values()} == {0.0}
    assert list(found) == list(KINDS)
