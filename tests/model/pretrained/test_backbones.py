from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.model.pretrained.tiny import write_bert, write_timm_vit

from tijepa.model.encoded import TokenSubset
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone, five_crops
from tijepa.model.pretrained.sources import open_image_source, open_text_source
from tijepa.model.pretrained.weights import load_pretrained


@pytest.fixture
def layered(tmp_path: Path) -> TextBackbone:
    source = open_text_source(str(write_bert(tmp_path / "bert", layers=2)))
    made = TextBackbone(net=source.net, max_tokens=8, pooling="layers")
    load_pretrained(made.net, source.weights(), "tiny")
    return made


IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
MASK = IDS > 0


def test_layers_are_the_word_embeddings_and_the_last_two_layers(layered: TextBackbone) -> None:
    """Means over the real tokens; the network has three hidden states: embeddings, layers 1, 2."""
    with torch.no_grad():
        found = layered(IDS, MASK)
        states = layered.net(IDS, attention_mask=MASK.long(), output_hidden_states=True)
    real = MASK[:, :, None].float()
    expected = [(h * real).sum(dim=1) / real.sum(dim=1) for h in states.hidden_states]
    torch.testing.assert_close(found.pooled, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)
    assert found.pooled.shape[1] == layered.pooled_width == 3 * layered.width


def test_a_hidden_token_is_in_no_layer_of_the_pooled_one(layered: TextBackbone) -> None:
    visible = TokenSubset(torch.tensor([[0, 1, 3]]), torch.ones(1, 3, dtype=torch.bool))
    other = IDS[:1].clone()
    other[0, 2] = 9
    with torch.no_grad():
        one, changed = (layered(ids, MASK[:1], visible).pooled for ids in (IDS[:1], other))
    assert torch.equal(one, changed)


def backbone(folder: Path, views: str) -> ImageBackbone:
    source = open_image_source(str(folder))
    made = ImageBackbone(net=source.net, image_size=32, pooling="class_mean", views=views)
    load_pretrained(made.net, source.weights(32), "tiny")
    return made


def test_corner_crops_keep_seven_eighths_of_each_side_and_mirror_the_right_ones() -> None:
    """An image of 16 pixels: rows 0 to 13 above and 2 to 15 below, and columns alike.

    The slope of a ramp of one a pixel becomes 7/8 by enlarging, and its middle stays: 6.5 of the
    left crops, 8.5 of the right ones, which run downwards.
    """
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)
    left, right, below, corner = (crop[0, 0, 5] for crop in five_crops(ramp)[1:])
    for crop, middle, slope in ((left, 6.5, 0.875), (right, 8.5, -0.875)):
        assert torch.allclose(crop.diff()[1:-1], torch.full((13,), slope))
        assert torch.isclose(crop[7:9].mean(), torch.tensor(middle))
    assert torch.equal(below, left)
    assert torch.equal(corner, right)
    upright = five_crops(ramp.transpose(2, 3))[1:]
    assert torch.isclose(upright[0][0, 0, 7:9, 3].mean(), torch.tensor(6.5))
    assert torch.isclose(upright[2][0, 0, 7:9, 3].mean(), torch.tensor(8.5))


def test_the_pooled_token_is_the_mean_over_five_crops_and_tokens_are_the_whole_image(
    tmp_path: Path,
) -> None:
    folder = write_timm_vit(tmp_path / "vit")
    whole, corners = backbone(folder, "whole"), backbone(folder, "corners")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, five = whole(images), corners(images)
        cut = [images[..., :28, :28], images[..., :28, 4:].flip(-1)]
        cut += [images[..., 4:, :28], images[..., 4:, 4:].flip(-1)]
        views = [images, *(F.interpolate(c, size=(32, 32), mode="bilinear") for c in cut)]
        expected = sum(whole(view).pooled for view in views) / 5
    torch.testing.assert_close(five.pooled, expected, atol=1e-5, rtol=1e-5)
    assert (five.pooled - one.pooled).abs().max() > 1e-2
    assert torch.equal(five.tokens, one.tokens)


def test_hidden_patches_are_seen_in_no_crop(tmp_path: Path) -> None:
    corners = backbone(write_timm_vit(tmp_path / "vit"), "corners")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., :16] += 1.0  # the left patches, 0 and 2
    visible = TokenSubset(torch.tensor([[1, 3]] * 2), torch.ones(2, 2, dtype=torch.bool))
    with torch.no_grad():
        assert torch.equal(corners(images, visible).pooled, corners(other, visible).pooled)
