"""θ̄ ← τ θ̄ + (1 − τ) θ, for every parameter and running statistic, compiled or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tijepa.model.text_image_model import TextImageModel, target_copy, update_ema


def model(ema: bool = True) -> TextImageModel:
    torch.manual_seed(0)
    mlp: dict[str, Any] = {"hidden": 8, "depth": 1, "norm": "batch"}
    size: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2}
    return TextImageModel(
        encoders={
            "image": {"image_size": 8, "patch_size": 4, **size},
            "text": {"vocab_size": 20, "max_tokens": 6, **size},
            "head": mlp,
            "embed_dim": 4,
        },
        predictors={"embed_dim": 4, "pooled": mlp, "tokens": None},
        ema=ema,
    )


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_targets_move_by_the_rule() -> None:
    """τ = 3/4, θ̄ = 2, θ = 10: 3/4 · 2 + 1/4 · 10 = 4; once more 3/4 · 4 + 1/4 · 10 = 5.5."""
    context, target = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.constant_(context.weight, 10.0)
    nn.init.constant_(target.weight, 2.0)
    update_ema(target, context, 0.75)
    assert target.weight.item() == 4.0
    update_ema(target, context, 0.75)
    assert target.weight.item() == 5.5
    assert context.weight.item() == 10.0


def test_running_statistics_move_and_counters_are_copied() -> None:
    """Running mean 8 and variance 3 against fresh 0 and 1, τ = 1/2: 4 and 2."""
    context = nn.BatchNorm1d(1)
    target = target_copy(context)
    with torch.no_grad():
        context.running_mean.fill_(8.0)
        context.running_var.fill_(3.0)
        context.num_batches_tracked.fill_(7)
    update_ema(target, context, 0.5)
    assert target.running_mean.item() == 4.0
    assert target.running_var.item() == 2.0
    assert target.num_batches_tracked.item() == 7


@given(momentum=st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=30)
def test_targets_stay_between_where_they_were_and_the_context(momentum: float) -> None:
    """Momentum 0 copies, momentum 1 stands still, everything between interpolates."""
    context, target = nn.Linear(3, 3), nn.Linear(3, 3)
    old, new = target.weight.detach().clone(), context.weight.detach().clone()
    update_ema(target, context, momentum)
    expected = momentum * old + (1 - momentum) * new
    torch.testing.assert_close(target.weight.detach(), expected)
    if momentum == 0.0:
        assert torch.equal(target.weight, new)
    if momentum == 1.0:
        assert torch.equal(target.weight, old)


def test_another_set_of_names_is_a_bug_that_is_reported() -> None:
    with pytest.raises(AssertionError):
        update_ema(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), 0.5)


def test_a_copy_is_equal_owns_its_memory_and_takes_no_gradient() -> None:
    context = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    context(torch.randn(4, 2)).sum().backward()
    target = target_copy(context)
    assert not target.training
    assert context.training
    for (name, own), copied in zip(
        context.state_dict().items(), target.state_dict().values(), strict=True
    ):
        assert torch.equal(own, copied), name
        assert own.data_ptr() != copied.data_ptr(), name
    assert not any(p.requires_grad or p.grad is not None for p in target.parameters())


def test_target_encoders_stay_in_evaluation_mode() -> None:
    made = model()
    assert made.target is not None
    for mode in (True, False, True):
        assert made.train(mode) is made
        assert made.context.training is mode
        assert made.predictors is not None
        assert made.predictors.training is mode
        assert not any(part.training for part in made.target.modules())


def test_a_model_without_targets_has_nothing_to_update() -> None:
    made = model(ema=False)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.train().update_targets(0.5)
    assert not any(name.startswith("target.") for name in before)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Compiled code cannot be traced through the run-time checks of shapes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler's own
@pytest.mark.parametrize("compiled", [False, True])
def test_targets_follow_a_trained_context_compiled_or_not(compiled: bool) -> None:
    """Compilation in place keeps every name, so no target is left behind.

    All parameters of the image encoder move by −lr · gradient (SGD, lr 1); with τ = 1/2 the
    target moves exactly half as far.
    """
    made = model().train()
    assert made.target is not None
    keys = list(made.state_dict())
    if compiled:
        made.context.image.compile(backend="eager")
        made.context.text.compile(backend="eager")
    assert list(made.state_dict()) == keys
    start = {n: p.detach().clone() for n, p in made.target.named_parameters()}
    encoded = made.context.image(images())
    weight = torch.linspace(-1, 1, 4)
    loss = (made.context.embed_image(encoded.pooled) * weight).square().mean()
    loss.backward()
    torch.optim.SGD(made.context.parameters(), lr=1.0).step()
    made.update_targets(0.5)
    assert list(made.state_dict()) == keys
    moved = 0
    for name, context in made.context.named_parameters():
        target = made.target.get_parameter(name)
        torch.testing.assert_close(target, (start[name] + context.detach()) / 2)
        moved += int(not torch.equal(target, start[name]))
        assert target.grad is None
    image_parts = [n for n, p in made.context.named_parameters() if p.grad is not None]
    assert len(image_parts) > 10
    assert moved >= len(image_parts) - 2  # the bias of keys takes no gradient but rounding
    running = "image_head.layers.1.running_mean"
    torch.testing.assert_close(
        made.target.get_buffer(running), made.context.get_buffer(running) / 2
    )
    assert made.context.get_buffer(running).any()
