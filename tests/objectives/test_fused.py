"""The task of the TI-JEPA paper: what is context, what is target, and that X̄ follows X."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tijepa.data.pairs import Batch
from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Encodings
from tijepa.objectives.energies import squared_l2
from tijepa.objectives.fused import fused_energy, fused_targets
from tijepa.objectives.masks import BlockMasks, Masks

GRID = 3


class Setting:
    """A model, a batch, its encodings and masks, and the energy of the task on them."""

    def __init__(
        self,
        model: TextImageModel,
        batch: Batch,
        make_encodings: Callable[[TextImageModel, Batch], Encodings],
    ) -> None:
        self.model, self.batch, self.make_encodings = model, batch, make_encodings
        self.encodings = make_encodings(model, batch)
        self.masks = BlockMasks(GRID, 2, (0.2, 0.3)).draw(len(batch), np.random.default_rng(0))

    def context(self) -> Encoded:
        return self.model.context.image(self.batch.images, self.masks.context)

    def energy(self, energy: Callable[[Tensor, Tensor], Tensor] = squared_l2) -> Tensor:
        arguments = (self.context(), self.encodings.text, self.encodings, self.masks)
        return fused_energy(self.model, energy, *arguments)


@pytest.fixture
def setting(
    make_model: Callable[..., TextImageModel],
    make_batch: Callable[..., Batch],
    make_encodings: Callable[[TextImageModel, Batch], Encodings],
) -> Setting:
    return Setting(make_model(), make_batch(), make_encodings)


def test_the_target_fusion_starts_as_an_exact_copy() -> None:
    size = {"width": 8, "depth": 1, "heads": 2}
    mlp = {"hidden": 8, "depth": 1}
    encoders = {
        "image": {"image_size": 8, "patch_size": 4, **size},
        "text": {"vocab_size": 20, "max_tokens": 6, **size},
        "head": mlp,
        "embed_dim": 4,
        "fusion": size,
    }
    predictors = {"embed_dim": 4, "pooled": mlp, "tokens": None}
    model = TextImageModel(encoders=encoders, predictors=predictors, ema=True).train()
    own, target = model.context.fusion, model.target
    assert own is not None
    assert target is not None
    assert target.fusion is not None
    copied = target.fusion.state_dict()
    for name, value in own.state_dict().items():
        assert torch.equal(copied[name], value)
        assert copied[name].data_ptr() != value.data_ptr()
    assert not any(part.training for part in target.fusion.modules())
    assert not any(p.requires_grad for p in target.fusion.parameters())


def test_the_target_fusion_moves_by_the_rule_and_never_by_gradient(setting: Setting) -> None:
    """τ = 3/4: after one update X̄ is ¾ of what it was plus ¼ of the new X."""
    model = setting.model
    assert model.target is not None
    assert model.target.fusion is not None
    assert model.context.fusion is not None
    start = {n: p.clone() for n, p in model.target.fusion.named_parameters()}
    setting.energy().mean().backward()
    assert all(p.grad is None for p in model.target.parameters())
    optimizer = torch.optim.SGD(model.context.fusion.parameters(), lr=0.5)
    optimizer.step()
    for name, before in start.items():
        assert torch.equal(model.target.fusion.get_parameter(name), before)
    model.update_targets(0.75)
    moved = 0
    for name, own in model.context.fusion.named_parameters():
        target = model.target.fusion.get_parameter(name)
        torch.testing.assert_close(target, 0.75 * start[name] + 0.25 * own.detach())
        moved += int(not torch.equal(target, start[name]))
    assert moved > len(start) / 2


def test_targets_are_fused_from_everything_and_layer_normed(setting: Setting) -> None:
    assert setting.model.target is not None
    assert setting.model.target.fusion is not None
    found = fused_targets(setting.model, setting.encodings)
    assert found.tokens.shape == (6, GRID**2, 12)
    assert not found.tokens.requires_grad
    image = setting.model.target.image(setting.batch.images)
    text = setting.model.target.text(setting.batch.tokens, setting.batch.token_mask)
    expected = F.layer_norm(setting.model.target.fusion(image, text).tokens, (12,))
    torch.testing.assert_close(found.tokens, expected.detach())


def test_each_block_is_predicted_alone_from_the_fused_context(setting: Setting) -> None:
    """A spy sees one comparison per block; queries of other blocks do not change a prediction."""
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(predicted: Tensor, target: Tensor) -> Tensor:
        seen.append((predicted.detach(), target))
        return squared_l2(predicted, target)

    setting.energy(spy)
    blocks, targets = setting.masks.blocks, fused_targets(setting.model, setting.encodings).tokens
    assert len(seen) == len(blocks) == 2
    for block, (_, target) in zip(blocks, seen, strict=True):
        assert torch.equal(target, gather_tokens(targets, block.index))
    first = [predicted for predicted, _ in seen]
    one = blocks[1]
    setting.masks = replace(
        setting.masks, blocks=(TokenSubset((blocks[0].index + 1) % 9, blocks[0].mask), one)
    )
    seen.clear()
    setting.energy(spy)
    torch.testing.assert_close(seen[1][0], first[1])
    assert not torch.allclose(seen[0][0], first[0])


def test_the_energy_is_the_mean_over_the_patches_of_all_blocks(setting: Setting) -> None:
    """One block of 1 patch and one of 3, energies 8 and 2 a patch: (1 · 8 + 3 · 2) / 4 = 3.5."""
    index = torch.arange(3).expand(6, -1)
    one, three = torch.tensor([True, False, False]), torch.ones(3, dtype=torch.bool)
    blocks = tuple(TokenSubset(index, mask.expand(6, -1)) for mask in (one, three))
    setting.masks = Masks(setting.masks.context, setting.masks.target, blocks)
    values = iter((8.0, 2.0))

    def flat(predicted: Tensor, target: Tensor) -> Tensor:
        return torch.full(predicted.shape[:-1], next(values))

    torch.testing.assert_close(setting.energy(flat), torch.full((6,), 3.5))


def test_a_wrong_text_changes_context_and_target(setting: Setting) -> None:
    """Both read it: with either alone exchanged, or with both, every item has another energy."""
    right = setting.energy().detach()
    batch = setting.batch
    turned = replace(batch, tokens=batch.tokens.roll(1, 0), token_mask=batch.token_mask.roll(1, 0))
    wrong = setting.make_encodings(setting.model, turned)
    found = [right]
    for encodings in (
        replace(setting.encodings, text=wrong.text),
        replace(setting.encodings, target_text=wrong.target_text),
        wrong,
    ):
        setting.encodings = encodings
        found.append(setting.energy().detach())
    for k, one in enumerate(found):
        for other in found[:k]:
            assert ((one - other).abs() > 1e-5).all()


def test_padding_of_the_text_changes_no_energy(setting: Setting) -> None:
    """Other token numbers where the mask is False, and further columns of padding."""
    before = setting.energy().detach()
    batch = setting.batch
    assert not batch.token_mask.all()
    other = replace(batch, tokens=torch.where(batch.token_mask, batch.tokens, 7))
    setting.encodings = setting.make_encodings(setting.model, other)
    assert torch.equal(setting.energy().detach(), before)
    longest = int(batch.token_mask.sum(dim=1).max())
    cut = replace(batch, tokens=batch.tokens[:, :longest], token_mask=batch.token_mask[:, :longest])
    setting.encodings = setting.make_encodings(setting.model, cut)
    torch.testing.assert_close(setting.energy().detach(), before, atol=1e-5, rtol=1e-5)


def test_hidden_pixels_change_the_target_and_not_the_context(setting: Setting) -> None:
    """Only the target encoder sees them: the fused context of the visible patches is the same."""
    assert setting.model.context.fusion is not None
    context = setting.masks.context
    shown = torch.zeros(6, GRID**2)
    shown = shown.scatter_add(1, context.index, context.mask.float()).clamp(max=1.0)
    hidden = 1 - shown.view(6, 1, GRID, GRID)
    pixels = hidden.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    before = setting.model.context.fusion(setting.context(), setting.encodings.text)
    target = fused_targets(setting.model, setting.encodings).tokens
    setting.batch = replace(setting.batch, images=setting.batch.images + 2.0 * pixels)
    after = setting.model.context.fusion(setting.context(), setting.encodings.text)
    assert torch.equal(after.tokens, before.tokens)
    changed = setting.make_encodings(setting.model, setting.batch)
    assert not torch.allclose(fused_targets(setting.model, changed).tokens, target)
