"""Stems: one token a patch, row by row."""

from __future__ import annotations

import pytest
import torch

from tijepa.model.encoders import STEMS, ConvStem, LinearStem


def test_the_linear_stem_maps_each_patch_by_itself() -> None:
    """With ones as weights a token sums its patch: 3 channels of 2 x 2 pixels of one value."""
    stem = LinearStem(patch_size=2, width=1)
    torch.nn.init.ones_(stem.embed.weight)
    torch.nn.init.zeros_(stem.embed.bias)
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    images = values.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(1, 3, 4, 4)
    assert stem(images.contiguous()).tolist() == [[[12.0], [24.0], [36.0], [48.0]]]


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize(("size", "patch"), [(32, 8), (64, 16), (16, 4)])
def test_every_token_depends_on_its_own_patch_most(name: str, size: int, patch: int) -> None:
    torch.manual_seed(0)
    stem = STEMS[name](patch_size=patch, width=32)
    stem.initialise()
    grid = size // patch
    images = torch.randn(32, 3, size, size, requires_grad=True)
    tokens = stem(images)
    assert tokens.shape == (32, grid**2, 32)
    for number in range(grid**2):
        (slope,) = torch.autograd.grad(tokens[:, number].sum(), images, retain_graph=True)
        tiles = slope.square().sum(dim=(0, 1)).view(grid, patch, grid, patch).sum(dim=(1, 3))
        assert int(tiles.argmax()) == number


def test_a_convolutional_token_sees_its_patch_and_half_a_patch_around() -> None:
    """n = 3, patches of 8: token (1, 1) of 4 x 4 sees pixels 8 - 4 = 4 to 8 + 8 + 4 - 2 = 18."""
    torch.manual_seed(0)
    stem = ConvStem(patch_size=8, width=16)
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    stem(images)[0, 4 + 1].sum().backward()
    assert images.grad is not None
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
    columns = images.grad.abs().sum(dim=(0, 1, 2)).nonzero()[:, 0]
    assert rows.tolist() == columns.tolist() == list(range(4, 19))


def test_the_convolutional_stem_keeps_the_scale_of_its_input() -> None:
    """He initialisation keeps the second moment through each layer, up to the shape of GELU."""
    torch.manual_seed(0)
    stem = ConvStem(patch_size=16, width=128)
    stem.initialise()
    rms = stem(torch.randn(8, 3, 64, 64)).detach().square().mean().sqrt()
    assert 0.2 < float(rms) < 2.0


def test_the_convolutional_stem_needs_a_power_of_two() -> None:
    with pytest.raises(AssertionError):
        ConvStem(patch_size=12, width=16)
