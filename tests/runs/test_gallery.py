from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tijepa.data.pairs import Item, PairSource, StoredImage
from tijepa.evaluate.measure import EvaluationSet
from tijepa.inference.embeddings import SearchEnergies
from tijepa.runs.report.report import gallery_of


class Shades(PairSource):
    """Ten images, each of one shade: ten times its index."""

    def __len__(self) -> int:
        return 10

    def item_id(self, index: int) -> str:
        return str(index)

    def read(self, indexes: Sequence[int]) -> list[Item]:
        texts = self.texts(indexes)
        return [Item(own, Shade(10 * i)) for i, own in zip(indexes, texts, strict=True)]

    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        return [(f"shade {i}", f"again {i}") for i in indexes]


@dataclass(frozen=True)
class Shade(StoredImage):
    value: int

    def pixels(self, min_side: int) -> np.ndarray:
        return np.full((8, 8, 3), self.value, dtype=np.uint8)


def evaluation() -> EvaluationSet:
    """Items 5 to 9 of the source, two captions each."""
    texts = [text for index in range(5, 10) for text in Shades().captions(index)]
    owner = torch.arange(5).repeat_interleave(2)
    return EvaluationSet(torch.zeros(5, 3, 8, 8), texts, owner, list(range(5, 10)))


def distances() -> SearchEnergies:
    """|row − owner of the column|: the own pair is lowest, neighbours follow. Texts: 10 more."""
    images = (torch.arange(5)[:, None] - evaluation().image_of_text[None]).abs().float()
    return SearchEnergies(images=images, texts=images + 10)


def test_answers_are_sorted_by_energy_and_the_match_is_marked() -> None:
    queries = gallery_of(evaluation(), distances(), Shades(), count=1)
    by_text, by_image = queries
    assert (by_text.kind, by_text.text) == ("text_to_image", "again 7")
    assert [answer.energy for answer in by_text.results] == [0.0, 1.0, 1.0, 2.0, 2.0]
    assert [answer.is_match for answer in by_text.results] == [True, False, False, False, False]
    assert by_text.results[0].image is not None
    assert by_text.results[0].image[0, 0, 0] == 70
    assert by_text.results[0].caption == "shade 7"
    assert by_image.kind == "image_to_text"
    assert by_image.image is not None
    assert by_image.image[0, 0, 0] == 70
    assert {by_image.results[k].caption for k in (0, 1)} == {"shade 7", "again 7"}
    assert [answer.energy for answer in by_image.results] == [10.0, 10.0, 11.0, 11.0, 11.0]
    assert [answer.is_match for answer in by_image.results] == [True, True, False, False, False]


def test_queries_are_spread_over_the_items() -> None:
    queries = gallery_of(evaluation(), distances(), Shades(), count=5)
    asked = [query.text for query in queries if query.kind == "text_to_image"]
    assert asked == ["again 5", "again 6", "again 7", "again 8", "again 9"]
    shades = [query.image[0, 0, 0] for query in queries if query.image is not None]
    assert shades == [50, 60, 70, 80, 90]


def test_there_are_never_more_queries_than_items() -> None:
    queries = gallery_of(evaluation(), distances(), Shades(), count=100)
    assert [query.kind for query in queries].count("image_to_text") == 5
    assert [query.kind for query in queries].count("text_to_image") == 10


def test_energies_that_are_not_numbers_come_last() -> None:
    energy = distances()
    energy.images[0] = math.nan
    answers = gallery_of(evaluation(), energy, Shades(), count=1)[0].results
    assert math.isnan(answers[-1].energy)
    assert not math.isnan(answers[0].energy)
