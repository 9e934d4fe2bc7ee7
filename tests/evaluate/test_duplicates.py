from __future__ import annotations

from dataclasses import replace

import torch

from tijepa.evaluate.duplicates import duplicates_aware_recall
from tijepa.evaluate.retrieval import retrieval
from tijepa.inference.embeddings import SearchEnergies

from .test_registered import evaluated_pairs


def test_without_duplicates_it_is_plain_recall() -> None:
    pairs = evaluated_pairs(["a", "b", "c", "d"], [0, 1, 2, 2], 3)
    energy = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))
    found = duplicates_aware_recall(replace(pairs, energy=SearchEnergies(energy, energy)))
    plain = retrieval(energy, pairs.image_of_text)
    for direction in ("image_to_text", "text_to_image"):
        kept = {name: getattr(getattr(plain, direction), name) for name in found[direction]}
        assert found[direction] == kept
    assert (found["duplicate_images"], found["duplicate_texts"]) == (0, 0)


def test_the_same_words_are_right_for_every_image_that_has_them() -> None:
    """Image 0 finds the caption of image 1 first, which says the same; image 2 finds its own."""
    pairs = evaluated_pairs(["A dog", "a  DOG", "a cat"], [0, 1, 2], 3)
    energy = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0], [2.0, 2.0, 0.0]])
    found = duplicates_aware_recall(replace(pairs, energy=SearchEnergies(energy, energy)))
    assert found["image_to_text"]["recall_at_1"] == found["text_to_image"]["recall_at_1"] == 1.0
    assert found["duplicate_texts"] == 1
    assert retrieval(energy, pairs.image_of_text).image_to_text.recall_at_1 < 0.5


def test_an_equal_image_is_right_and_a_tie_with_a_wrong_one_is_not() -> None:
    pairs = evaluated_pairs(["a", "b", "c"], [0, 1, 2], 3)
    images = pairs.images.clone()
    images[1] = images[0]
    energy = torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0], [5.0, 1.0, 1.0]])
    found = duplicates_aware_recall(
        replace(pairs, images=images, energy=SearchEnergies(energy, energy))
    )
    assert found["duplicate_images"] == 1
    assert found["text_to_image"]["recall_at_1"] == 1.0
    assert found["image_to_text"]["recall_at_1"] == 2 / 3
