from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.errors import DataError
from tijepa.inference.inputs import energy_of_labels, occluded, occlusion_masks, prompt_list


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


def test_a_mask_leaves_half_its_side_visible_around_the_centre_of_its_cell() -> None:
    """8 pixels in 2 x 2 cells: centres at 2 and 6. A square of 1.5 cells is 6 pixels wide and
    reaches from -1 to 5 and from 3 to 9: pixels 0 to 4 and 3 to 7, by their centres."""
    seen = occlusion_masks(8, 2, cells=1.5)
    assert seen.shape == (4, 8, 8)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:5, 3:] = True  # row 0, column 1: second of four
    assert torch.equal(seen[1], expected)


@given(grid=st.integers(1, 8), size=st.integers(16, 40))
def test_every_pixel_is_seen_and_every_mask_shows_some(grid: int, size: int) -> None:
    assert occlusion_masks(size, grid).any(dim=0).all()
    assert occlusion_masks(size, grid).flatten(1).any(dim=1).all()


def test_masks_of_one_cell_divide_the_image() -> None:
    """32 pixels in 8 x 8 cells of 4: each pixel is seen by one mask, and each shows 16 of them."""
    seen = occlusion_masks(32, 8, cells=1.0)
    assert torch.equal(seen.sum(dim=0), torch.ones(32, 32, dtype=torch.int64))
    assert torch.equal(seen.flatten(1).sum(dim=1), torch.full((64,), 16))


def test_what_is_covered_takes_the_median_colour_of_each_channel() -> None:
    """Of 16 pixels, 13 are .25 and 3 are 1 in the first channel; the others are constant."""
    image = torch.full((3, 4, 4), 0.25)
    image[0, 0, :3] = 1.0
    image[1] = -0.5
    behind = occluded(image, occlusion_masks(4, 2, cells=1.0))
    assert torch.equal(behind[0, 0, 0], torch.tensor([1.0, 1.0, 0.25, 0.25]))
    assert torch.equal(behind[3, 0], torch.full((4, 4), 0.25))
    assert torch.equal(behind[:, 1], image[1].expand(4, 4, 4))
