from __future__ import annotations

import pytest
import torch
from torch import nn

from tijepa.model.text_image_model import target_copy
from tijepa.training.optimizer import build_optimizer, set_schedules


class Everything(nn.Module):
    """One parameter of each kind that a model has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.embedding = nn.Embedding(5, 3)
        self.layer_norm = nn.LayerNorm(4)
        self.batch_norm = nn.BatchNorm1d(4)
        self.class_token = nn.Parameter(torch.ones(1, 1, 4))
        self.mask_token = nn.Parameter(torch.ones(4))
        self.temperature = nn.Parameter(torch.ones(()))


def test_matrices_decay_and_everything_else_does_not() -> None:
    module = Everything()
    optimizer = build_optimizer([module], lr=0.1, betas=(0.9, 0.95))
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = {
        group["decays"]: {names[id(p)] for p in group["params"]} for group in optimizer.param_groups
    }
    assert groups[True] == {"linear.weight", "embedding.weight"}
    assert groups[True] | groups[False] == set(names.values())
    assert not groups[True] & groups[False]


def test_schedules_reach_every_group_and_decay_only_the_decayed_one() -> None:
    optimizer = build_optimizer([Everything()], lr=0.1, betas=(0.9, 0.95))
    set_schedules(optimizer, lr=0.03, weight_decay=0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.03]
    decay = {group["decays"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decay == {True: 0.2, False: 0.0}


def test_decay_shrinks_a_matrix_by_hand() -> None:
    """With a gradient of 0, AdamW only decays: θ (1 − lr · decay) = 1 − 0.1 · 0.5 = 0.95."""
    module = nn.Linear(2, 2)
    for parameter in module.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer([module], lr=1.0, betas=(0.9, 0.95))
    set_schedules(optimizer, lr=0.1, weight_decay=0.5)
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(module.bias, torch.ones(2))


def test_target_encoders_are_not_optimised() -> None:
    context = Everything()
    optimizer = build_optimizer([context, target_copy(context)], lr=0.1, betas=(0.9, 0.95))
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {
        id(p) for p in context.parameters()
    }


@pytest.mark.parametrize("module", [nn.Linear(3, 3, bias=False), nn.LayerNorm(3)])
def test_a_group_without_parameters_is_left_out(module: nn.Module) -> None:
    optimizer = build_optimizer([module, nn.Module()], lr=0.1, betas=(0.9, 0.95))
    assert len(optimizer.param_groups) == 1
    set_schedules(optimizer, lr=0.1, weight_decay=0.1)


def test_betas_are_passed_on() -> None:
    optimizer = build_optimizer([nn.Linear(2, 2)], lr=0.1, betas=(0.8, 0.7))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.7)}


def test_a_scaled_module_learns_at_its_share_of_the_rate() -> None:
    """SGD-like first step of Adam: every weight moves by its learning rate, 1.0 and 0.1 of it."""
    fast, slow = nn.Linear(2, 2), nn.Linear(2, 2)
    before = [fast.weight.detach().clone(), slow.weight.detach().clone()]
    both = nn.ModuleList([fast, slow])
    optimizer = build_optimizer([both], lr=1.0, betas=(0.9, 0.95), scaled=[(slow, 0.1)])
    set_schedules(optimizer, lr=0.01, weight_decay=0.0)
    (fast(torch.ones(1, 2)).sum() + slow(torch.ones(1, 2)).sum()).backward()
    optimizer.step()
    steps = [(m.weight - b).abs().detach() for m, b in zip(both, before, strict=True)]
    torch.testing.assert_close(steps[0], torch.full((2, 2), 0.01), atol=1e-5, rtol=0)
    torch.testing.assert_close(steps[1], torch.full((2, 2), 0.001), atol=1e-6, rtol=0)
