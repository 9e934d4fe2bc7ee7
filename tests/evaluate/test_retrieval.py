from __future__ import annotations

import json
import math
from dataclasses import asdict
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.errors import DataError
from tijepa.evaluate.retrieval import (
    image_to_text_ranks,
    intervals_in_words,
    retrieval,
    text_to_image_ranks,
)
from tijepa.inference.results import Direction, Retrieval


def test_ranks_of_a_small_matrix_equal_the_hand_count() -> None:
    """Three images, four texts; texts 0 and 1 describe image 0, text 2 image 1, text 3 image 2.

    text→image, down the columns: text 0: own 1 against 2, 3 → 1. Text 1: own 5 against 4, 6 → 2.
    Text 2: own 3 against 1, 2 → 3. Text 3: own 0 against 7, 1 → 1. Recall at 1 = 2/4, median 1.5.

    image→text, along the rows: image 0: best own 1 against others' 1 (tie), 7 → 2. Image 1: own 3
    against 2, 4, 1 → 3. Image 2: own 0 against 3, 6, 2 → 1. Recall at 1 = 1/3, median 2.
    """
    energy = torch.tensor([[1.0, 5.0, 1.0, 7.0], [2.0, 4.0, 3.0, 1.0], [3.0, 6.0, 2.0, 0.0]])
    owners = torch.tensor([0, 0, 1, 2])
    assert text_to_image_ranks(energy, owners).tolist() == [1, 2, 3, 1]
    assert image_to_text_ranks(energy, owners).tolist() == [2, 3, 1]
    result = retrieval(energy, owners)
    assert result.text_to_image.recall_at_1 == 0.5
    assert result.text_to_image.median_rank == 1.5
    assert result.image_to_text.recall_at_1 == pytest.approx(1 / 3)
    assert result.image_to_text.median_rank == 2.0
    assert result.chance_at_1 == pytest.approx(1 / 3)


def test_own_captions_do_not_compete_with_each_other() -> None:
    """Image 0 has three captions of equal energy; the only foreign text is worse: rank 1."""
    energy = torch.tensor([[1.0, 1.0, 1.0, 2.0], [3.0, 3.0, 3.0, 0.0]])
    assert image_to_text_ranks(energy, torch.tensor([0, 0, 0, 1])).tolist() == [1, 1]


def test_constant_energies_rank_last() -> None:
    """20 images, 40 texts: every image ties with all 20; each text with the 38 foreign, so 39."""
    owners = torch.arange(20).repeat_interleave(2)
    result = retrieval(torch.full((20, 40), 0.7), owners)
    assert text_to_image_ranks(torch.full((20, 40), 0.7), owners).tolist() == [20] * 40
    assert result.image_to_text.median_rank == 39.0
    assert result.image_to_text.recall_at_10 == result.text_to_image.recall_at_10 == 0.0


def test_energies_that_are_not_numbers_rank_last() -> None:
    energy = torch.full((12, 12), math.nan)
    owners = torch.arange(12)
    assert text_to_image_ranks(energy, owners).tolist() == [12] * 12
    assert image_to_text_ranks(energy, owners).tolist() == [12] * 12


def test_a_rival_that_is_not_a_number_counts_against_the_model() -> None:
    energy = torch.tensor([[0.0, math.nan], [1.0, 0.0]])
    owners = torch.arange(2)
    assert image_to_text_ranks(energy, owners).tolist() == [2, 1]
    assert text_to_image_ranks(energy, owners).tolist() == [1, 2]


def test_an_own_caption_that_is_not_a_number_leaves_the_other_one() -> None:
    energy = torch.tensor([[math.nan, 1.0, 2.0], [3.0, 3.0, 0.0]])
    assert image_to_text_ranks(energy, torch.tensor([0, 0, 1])).tolist() == [1, 1]


def test_an_image_without_caption_asks_nothing_but_distracts() -> None:
    energy = torch.tensor([[1.0, 9.0], [9.0, 1.0], [0.0, 9.0]])
    owners = torch.tensor([0, 1])
    assert image_to_text_ranks(energy, owners).tolist() == [1, 1]
    assert text_to_image_ranks(energy, owners).tolist() == [2, 1]
    assert retrieval(energy, owners).num_images == 3


def test_the_dictionary_is_plain_json() -> None:
    loaded = json.loads(json.dumps(asdict(retrieval(-torch.eye(4), torch.arange(4)))))
    perfect = {"recall_at_1": 1.0, "recall_at_5": 1.0, "recall_at_10": 1.0, "median_rank": 1.0}
    assert loaded == {
        "image_to_text": perfect,
        "text_to_image": perfect,
        "num_images": 4,
        "num_texts": 4,
        "chance_at_1": 0.25,
    }


@pytest.mark.parametrize("shape", [(0, 0), (3, 0)])
def test_nothing_to_retrieve_is_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="at least one image with a caption"):
        retrieval(torch.zeros(shape), torch.zeros(shape[1], dtype=torch.long))


@pytest.mark.parametrize("owner", [-1, 2])
def test_an_owner_outside_the_matrix_is_an_error(owner: int) -> None:
    with pytest.raises(DataError, match=f"holds {owner}"):
        retrieval(torch.zeros(2, 2), torch.tensor([0, owner]))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Energies on a coarse grid, so that ties occur, and owners that leave some images bare."""
    images, texts = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    levels = draw(st.lists(st.integers(0, 9), min_size=images * texts, max_size=images * texts))
    owners = draw(st.lists(st.integers(0, images - 1), min_size=texts, max_size=texts))
    return torch.tensor(levels, dtype=torch.float64).view(images, texts) / 4, torch.tensor(owners)


@settings(deadline=None, max_examples=60)
@given(problems(), st.randoms(use_true_random=False))
def test_order_of_images_and_texts_does_not_matter(
    problem: tuple[Tensor, Tensor], random: Random
) -> None:
    energy, owners = problem
    rows = torch.tensor(random.sample(range(energy.shape[0]), energy.shape[0]))
    columns = torch.tensor(random.sample(range(energy.shape[1]), energy.shape[1]))
    moved = torch.empty_like(rows)
    moved[rows] = torch.arange(len(rows))  # old row → new row
    shuffled = retrieval(energy[rows][:, columns], moved[owners[columns]])
    assert shuffled == retrieval(energy, owners)


@settings(deadline=None, max_examples=60)
@given(problems())
def test_a_monotone_transform_of_the_energy_changes_nothing(problem: tuple[Tensor, Tensor]) -> None:
    energy, owners = problem
    assert retrieval(energy.exp() * 3 - 100, owners) == retrieval(energy, owners)


@settings(deadline=None, max_examples=60)
@given(problems())
def test_recall_does_not_fall_with_k_and_ranks_stay_in_range(
    problem: tuple[Tensor, Tensor],
) -> None:
    energy, owners = problem
    result = retrieval(energy, owners)
    for direction, candidates in (
        (result.image_to_text, result.num_texts),
        (result.text_to_image, result.num_images),
    ):
        assert 0 <= direction.recall_at_1 <= direction.recall_at_5 <= direction.recall_at_10 <= 1
        assert 1 <= direction.median_rank <= candidates


@settings(deadline=None, max_examples=40)
@given(problems())
def test_lowest_energy_on_own_pairs_gives_recall_one(problem: tuple[Tensor, Tensor]) -> None:
    energy, owners = problem
    energy = energy.clone()
    energy[owners, torch.arange(len(owners))] = -1.0
    result = retrieval(energy, owners)
    assert result.image_to_text.recall_at_1 == result.text_to_image.recall_at_1 == 1.0


@settings(deadline=None, max_examples=60)
@given(problems())
def test_ranks_equal_a_plain_count(problem: tuple[Tensor, Tensor]) -> None:
    """The vectorised ranks against the definition, pair by pair."""
    energy, owners = problem
    rows, who = energy.tolist(), owners.tolist()
    forward = []
    for image in sorted(set(who)):
        best = min(rows[image][t] for t in range(len(who)) if who[t] == image)
        forward.append(1 + sum(rows[image][t] <= best for t in range(len(who)) if who[t] != image))
    backward = [
        1 + sum(rows[i][t] <= rows[who[t]][t] for i in range(len(rows)) if i != who[t])
        for t in range(len(who))
    ]
    assert image_to_text_ranks(energy, owners).tolist() == forward
    assert text_to_image_ranks(energy, owners).tolist() == backward


def test_recall_among_few_images_says_how_sure_it_is() -> None:
    """8 of 16: centre ½ and half width 0.22 by Wilson's formula; 0 of 16 ends at 19 %."""
    few = Retrieval(Direction(recall_at_1=0.5), Direction(recall_at_1=0.0), 16, 80)
    assert intervals_in_words(few) == (
        "R@1 of 16 images, 95 % intervals: 28 to 72 % image → text, 0 to 19 % text → image"
    )
    assert intervals_in_words(Retrieval(Direction(0.5), Direction(0.5), 500, 500)) is None
    assert intervals_in_words(Retrieval()) is None
