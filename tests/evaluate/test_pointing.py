from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tijepa
from tijepa.data.scenes import Scenes
from tijepa.data.scenes.wording import phrase
from tijepa.evaluate.grounding import centres_inside, hits, pointing, pointing_on_scenes, sameness


def test_a_cell_is_inside_where_its_centre_is() -> None:
    """4 x 4 cells of 8 pixels have centres 4, 12, 20, 28. The box from (12, 3) to (21, 11) holds
    the columns 1 and 2 (12 lies on its border) and row 0 alone."""
    inside = centres_inside(torch.tensor([[12.0, 3.0, 21.0, 11.0]]), 4, 32)
    assert inside[0].nonzero().tolist() == [[0, 1], [0, 2]]


def test_a_hit_is_a_lowest_cell_inside() -> None:
    inside = torch.zeros(1, 2, 2, dtype=torch.bool)
    inside[0, 0, 1] = True
    assert hits(torch.tensor([[[0.0, -1.0], [0.0, 5.0]]]), inside).tolist() == [True]
    assert hits(torch.tensor([[[0.0, 1.0], [0.0, 5.0]]]), inside).tolist() == [False]


def test_what_is_undecided_or_no_number_counts_against_the_model() -> None:
    inside = torch.zeros(1, 2, 2, dtype=torch.bool)
    inside[0, 0, 1] = True
    flat, broken = torch.zeros(1, 2, 2), torch.tensor([[[0.0, -1.0], [torch.nan, 5.0]]])
    assert hits(flat, inside).tolist() == [False]
    assert hits(broken, inside).tolist() == [False]
    assert hits(flat, torch.ones_like(inside)).tolist() == [True]


def test_the_score_of_two_maps_by_hand() -> None:
    """2 x 2 cells of 16 pixels: centres 8 and 24. The first box holds the first cell and is hit;
    the second, 4 x 4 pixels around (16, 16), holds none. Chance (1/4 + 0) / 2, area
    (16 x 16 + 4 x 4) / 1024 / 2 = 0.1328125."""
    energy = torch.tensor([[[-1.0, 0.0], [0.0, 0.0]], [[-1.0, 0.0], [0.0, 0.0]]])
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0], [14.0, 14.0, 18.0, 18.0]])
    assert asdict(pointing(energy, box, 32)) == {
        "accuracy": 0.5,
        "chance": 0.125,
        "box_area": 0.1328125,
        "reachable": 0.5,
        "queries": 2,
        "grid": 2,
    }


@given(st.integers(0, 2**31 - 1))
def test_random_maps_are_right_as_often_as_chance_says(seed: int) -> None:
    """Summed over a map that is lowest at each of the 64 cells in turn, hits are 64 x chance."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(1, 2, generator=generator) * 40
    box = torch.cat([corner, corner + 24 * torch.rand(1, 2, generator=generator)], dim=1)
    energy = -torch.eye(64).view(64, 8, 8)
    played = pointing(energy, box.expand(64, -1), 64)
    assert played.accuracy == pytest.approx(played.chance)


def test_maps_of_the_truth_find_every_object_on_scenes(tiny_run: Path) -> None:
    """A map that is low around the true centre of what is asked for hits whatever box holds a
    cell centre; one that asks for the other phrase does not."""
    embedder = tijepa.load(tiny_run)
    scenes = Scenes("test", 12, image_size=32, distinct=True)
    order = iter(range(12))

    def truth(image: Tensor, texts: Sequence[str]) -> Tensor:
        assert image.shape == (3, 32, 32)
        things = {phrase(thing): thing for thing in scenes.scene(next(order)).objects}
        assert set(texts) == set(things)
        at = (torch.arange(16) + 0.5) * 2
        maps = []
        for text in texts:
            x0, y0, x1, y1 = things[text].box
            maps.append(
                (at[:, None] - (y0 + y1) / 2).square() + (at[None, :] - (x0 + x1) / 2).square()
            )
        return torch.stack(maps)

    played = pointing_on_scenes(embedder, scenes, 12, truth)
    assert played.reachable == 1.0
    assert played.accuracy == 1.0
    assert played.queries == sum(len(scenes.scene(i).objects) for i in range(12))
    assert played.chance == pytest.approx(played.box_area, rel=0.3)


def test_by_default_the_models_own_maps_are_played(tiny_run: Path) -> None:
    scenes = Scenes("test", 2, image_size=32, distinct=True)
    played = pointing_on_scenes(tijepa.load(tiny_run), scenes, 5)
    assert played.grid == 8
    assert played.queries == sum(len(scenes.scene(i).objects) for i in range(2))


def test_sameness_is_the_correlation_with_the_mean_map_of_other_words() -> None:
    """(0 1; 2 3) twice as steep is the same, (3 2; 1 0) the opposite; two that cancel are flat."""
    energy = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert sameness(energy, torch.stack([2 * energy, 2 * energy + 9])) == pytest.approx(1)
    assert sameness(energy, (3 - energy)[None]) == pytest.approx(-1)
    assert sameness(energy, torch.stack([energy, 3 - energy])) == 1.0
    assert sameness(torch.ones(1, 1), torch.zeros(8, 1, 1)) == 1.0
    turned = torch.tensor([[1.0, 3.0], [0.0, 2.0]])  # products .75 − .75 − .75 + .75
    assert sameness(energy, turned[None]) == pytest.approx(0)
