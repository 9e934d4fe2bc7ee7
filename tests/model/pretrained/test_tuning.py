"""What is frozen stays as it is to the last bit, what is trained moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.model.pretrained.tiny import timm_vit, write_timm_vit
from torch import nn

from tijepa.errors import ConfigError
from tijepa.model.pretrained.backbones import ImageBackbone
from tijepa.model.pretrained.sources import open_image_source
from tijepa.model.pretrained.trainable import LowRankLinear
from tijepa.model.pretrained.vit import architecture_of, from_timm
from tijepa.model.pretrained.weights import hash_of_weights, load_pretrained
from tijepa.model.text_image_model import target_copy, update_ema

SHAPES = {name: tuple(value.shape) for name, value in timm_vit().items()}


def backbone(mode: str, *, layers: int = 1, rank: int = 2) -> ImageBackbone:
    architecture = architecture_of(SHAPES)
    assert architecture is not None
    net = {"kind": "vit", "config": architecture}
    torch.manual_seed(1)
    ours = ImageBackbone(net=net, image_size=32, mode=mode, layers=layers, rank=rank)
    load_pretrained(ours.net, from_timm(timm_vit(), 2), "tiny")
    return ours


def trained(ours: ImageBackbone) -> set[str]:
    """Which parameters an optimizer moves in three steps, by their hashes."""
    before = {name: hash_of_weights({name: p}) for name, p in ours.named_parameters()}
    moved = [p for p in ours.parameters() if p.requires_grad]
    if moved:
        optimizer = torch.optim.AdamW(moved, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            loss = ours(torch.ones(2, 3, 32, 32)).tokens.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {n for n, p in ours.named_parameters() if hash_of_weights({n: p}) != before[n]}


def test_a_frozen_backbone_has_nothing_to_train() -> None:
    ours = backbone("frozen").train()
    assert trained(ours) == set()
    assert ours.frozen
    assert not any(part.training for part in ours.modules())


def test_the_last_layers_and_what_follows_them_are_trained() -> None:
    moved = trained(backbone("last_k", layers=1))
    assert moved
    assert all(n.startswith(("net.transformer.blocks.1.", "net.transformer.norm.")) for n in moved)
    assert "net.transformer.norm.weight" in moved


def test_low_rank_updates_alone_are_trained_in_every_linear_map_of_the_layers() -> None:
    """Two blocks of four maps, each with A and B: 16 parameters."""
    moved = trained(backbone("lora"))
    assert len(moved) == 16
    assert all(name.endswith(("lora_a", "lora_b")) for name in moved)


def test_everything_is_trained_in_full_mode() -> None:
    ours = backbone("full")
    assert trained(ours) == {name for name, _ in ours.named_parameters()}


def test_a_fresh_low_rank_update_changes_nothing() -> None:
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone("lora")(pixels).tokens, backbone("frozen")(pixels).tokens)


def test_a_low_rank_map_adds_twice_b_a_x() -> None:
    """W = 0, A = (1, 1), B = (3), x = (1, 2): 2 · 3 · (1 + 2) = 18."""
    linear = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(linear.weight)
    ours = LowRankLinear(linear, rank=8)
    assert ours.lora_a.shape == (1, 2), "the rank is cut to what the map has"
    with torch.no_grad():
        ours.lora_a.fill_(1.0)
        ours.lora_b.fill_(3.0)
    assert ours(torch.tensor([[1.0, 2.0]])).tolist() == [[18.0]]


def test_more_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match="last_k is 3, and the backbone has 2 layers"):
        backbone("last_k", layers=3)


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_a_target_copy_shares_what_is_frozen_and_moves_the_rest(mode: str) -> None:
    context = backbone(mode)
    target = target_copy(context)
    for (name, own), copy in zip(context.named_parameters(), target.parameters(), strict=True):
        assert (own is copy) == (not own.requires_grad), name
    before = hash_of_weights(dict(context.state_dict()))
    update_ema(target, context, 0.3)
    assert hash_of_weights(dict(context.state_dict())) == before


def test_a_class_token_is_asked_of_a_network_that_has_none(tmp_path: Path) -> None:
    source = open_image_source(str(write_timm_vit(tmp_path / "vit", class_token=False)))
    assert ImageBackbone(net=source.net, image_size=32, pooling="grid").pooled_width == 5 * 64
    with pytest.raises(ConfigError, match="no class token: use mean or grid"):
        ImageBackbone(net=source.net, image_size=32, pooling="class")
