"""Hidden patches are dropped before the first layer, so nothing of them can reach an output."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.model.encoded import TokenSubset
from tijepa.model.encoders import ImageEncoder

PATCH, GRID = 4, 4
POOLINGS = ("mean", "class")
STEMS = ("conv", "linear")


def encoder(
    pooling: str = "mean", *, stem: str = "conv", checkpointing: bool = False
) -> ImageEncoder:
    torch.manual_seed(0)
    made = ImageEncoder(
        image_size=PATCH * GRID,
        patch_size=PATCH,
        width=16,
        depth=2,
        heads=2,
        pooling=pooling,
        stem=stem,
        checkpointing=checkpointing,
    )
    for parameter in made.parameters():  # strong weights: a leak must not hide in rounding
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def images(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, PATCH * GRID, PATCH * GRID, generator=generator) * 2 - 1


def repainted(image: Tensor, patches: list[int]) -> Tensor:
    """The same images with every pixel of row-major `patches` replaced."""
    changed = image.clone()
    for number in patches:
        top, left = PATCH * (number // GRID), PATCH * (number % GRID)
        changed[:, :, top : top + PATCH, left : left + PATCH] += 3.0
    return changed


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("pooling", POOLINGS)
@given(shown=st.sets(st.integers(0, GRID**2 - 1), min_size=1, max_size=GRID**2 - 1))
@settings(deadline=None, max_examples=15)
def test_hidden_patches_cannot_influence_context(pooling: str, stem: str, shown: set[int]) -> None:
    model = encoder(pooling, stem=stem)
    index = torch.tensor(sorted(shown)).expand(2, -1)
    visible = TokenSubset(index, torch.ones_like(index, dtype=torch.bool))
    hidden = [p for p in range(GRID**2) if p not in shown]
    before = model(images(), visible)
    after = model(repainted(images(), hidden), visible)
    assert torch.equal(before.tokens, after.tokens)
    assert torch.equal(before.pooled, after.pooled)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_hidden_patches_cannot_influence_a_padded_context(pooling: str, stem: str) -> None:
    """Padding repeats index 0, here a hidden patch: it must be masked, not merely present."""
    model = encoder(pooling, stem=stem)
    index = torch.tensor([[5, 6, 7, 10], [3, 9, 0, 0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    visible = TokenSubset(index, mask)
    hidden = [p for p in range(GRID**2) if p not in {3, 5, 6, 7, 9, 10}]
    before = model(images(), visible)
    after = model(repainted(images(), hidden), visible)
    assert torch.equal(before.tokens[mask], after.tokens[mask])
    assert torch.equal(before.pooled, after.pooled)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_shown_patch_influences_every_token_and_the_pooled_one(pooling: str) -> None:
    model = encoder(pooling)
    index = torch.tensor([[1, 6, 11]]).expand(2, -1)
    visible = TokenSubset(index, torch.ones_like(index, dtype=torch.bool))
    before = model(images(), visible)
    after = model(repainted(images(), [6]), visible)
    assert ((before.tokens - after.tokens).abs().amax(dim=2) > 1e-6).all()
    assert ((before.pooled - after.pooled).abs().amax(dim=1) > 1e-6).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_a_context_changes_nothing(pooling: str) -> None:
    model = encoder(pooling)
    index = torch.tensor([[2, 5, 8]]).expand(2, -1)
    alone = model(images(), TokenSubset(index, torch.ones_like(index, dtype=torch.bool)))
    wide = torch.cat([index, torch.zeros(2, 4, dtype=torch.long)], dim=1)
    padded = model(images(), TokenSubset(wide, torch.arange(7).expand(2, -1) < 3))
    torch.testing.assert_close(padded.tokens[:, :3], alone.tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.pooled, alone.pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_showing_every_patch_is_the_same_as_no_mask(pooling: str) -> None:
    model = encoder(pooling)
    index = torch.arange(GRID**2).expand(2, -1)
    shown = model(images(), TokenSubset(index, torch.ones_like(index, dtype=torch.bool)))
    whole = model(images())
    torch.testing.assert_close(shown.tokens, whole.tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown.pooled, whole.pooled, atol=1e-5, rtol=0)
    assert torch.equal(whole.position, index)
    assert whole.mask.all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_permuting_the_batch_permutes_the_output(pooling: str) -> None:
    model, order = encoder(pooling), torch.tensor([2, 0, 3, 1])
    straight, permuted = model(images(4)), model(images(4)[order])
    torch.testing.assert_close(permuted.tokens, straight.tokens[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(permuted.pooled, straight.pooled[order], atol=1e-5, rtol=0)


def test_the_order_of_shown_patches_does_not_matter() -> None:
    """Positions travel with their patches, so listing patches otherwise only permutes tokens."""
    model = encoder()
    index, order = torch.tensor([[1, 4, 14]]).expand(2, -1), torch.tensor([2, 0, 1])
    mask = torch.ones_like(index, dtype=torch.bool)
    first, second = (
        model(images(), TokenSubset(index, mask)),
        model(images(), TokenSubset(index[:, order], mask)),
    )
    torch.testing.assert_close(second.tokens, first.tokens[:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(second.pooled, first.pooled, atol=1e-5, rtol=0)


def test_checkpointing_changes_neither_output_nor_gradient() -> None:
    plain, frugal = encoder(), encoder(checkpointing=True)
    for model in (plain, frugal):
        model(images()).pooled.square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
