"""The contract of every registered objective, energy and regularizer, whoever registered it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tijepa.config import load_config
from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.distributed import SingleProcess
from tijepa.objectives.energies import Energy
from tijepa.objectives.regularizers import Regularizer
from tijepa.registry import entries, part
from tijepa.training.build import build_model, build_objective
from tijepa.training.optimizer import ScheduleValues, build_optimizer
from tijepa.training.step import Compute, training_step

SMALL = [
    "data.image_size=12",
    "data.max_tokens=8",
    "model.embed_dim=6",
    "model.image={patch_size: 4, width: 8, depth: 1, heads: 2}",
    "model.text={width: 8, depth: 1, heads: 2}",
    "compute.device=cpu",
]


def made(kind: str, name: str, **given: Any) -> Any:
    """The part of that name with its default settings."""
    config, found = entries(kind)[name].config, part(kind, name)
    settings = {} if config is None else config().model_dump()
    return found(**settings, **given) if settings or given else found


def named(name: str, *overrides: str) -> tuple[TextImageModel, torch.nn.Module]:
    config = load_config(overrides=[*SMALL, f"objective.name={name}", *overrides])
    return build_model(config, 30).train(), build_objective(config)


def stepped(name: str, batch: Batch, accumulate: int) -> tuple[dict[str, torch.Tensor], Any]:
    """The gradients of one step, and what it says."""
    model, objective = named(name)
    optimizer = build_optimizer([model, objective], lr=1e-3, betas=(0.9, 0.95))
    step = training_step(
        model,
        objective,
        optimizer,
        batch,
        ScheduleValues(lr=1e-3, weight_decay=0.0, ema_momentum=0.9),
        seed=(0, 0, 0),
        compute=Compute(torch.device("cpu"), torch.float32),
        accumulate=accumulate,
        clip_norm=math.inf,
    )
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return grads, step


@pytest.mark.parametrize("name", entries("objective"))
def test_an_objective_is_finite_trains_both_encoders_and_accumulates_exactly(
    name: str, make_batch: Callable[..., Batch]
) -> None:
    """With one image and one text missing; two micro-batches give the gradient of the whole."""
    batch = make_batch((True,) * 5 + (False,), (False,) + (True,) * 5)
    (whole, step), (halves, again) = stepped(name, batch, 1), stepped(name, batch, 2)
    assert torch.isfinite(step.loss)
    for modality in ("image", "text"):
        parts = [g for n, g in whole.items() if n.startswith(f"context.{modality}.")]
        assert sum(part.abs().sum() for part in parts) > 0
    torch.testing.assert_close(step.loss, again.loss, rtol=1e-4, atol=1e-6)
    for parameter, grad in whole.items():
        torch.testing.assert_close(halves[parameter], grad, rtol=1e-3, atol=1e-5, msg=parameter)


@pytest.mark.parametrize("name", entries("objective"))
def test_an_objective_of_a_batch_without_pairs_is_finite(
    name: str, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch((True,) * 3 + (False,) * 3, (False,) * 3 + (True,) * 3)
    assert torch.isfinite(stepped(name, batch, 1)[1].loss)


@pytest.mark.parametrize("name", entries("energy"))
def test_an_energy_is_one_number_a_row_and_zero_for_equal_alone(name: str) -> None:
    energy: Energy = made("energy", name)
    for scale in (1e-2, 1.0, 1e2):
        p, y = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * scale
        assert energy(p, y).shape == (3, 4)
        assert (energy(p, y) > 0).all()
        assert (energy(p, p).abs() <= 1e-6).all()
    own = torch.ones(2, 3, requires_grad=True)
    energy(own, torch.ones(2, 3)).sum().backward()
    assert own.grad is not None
    assert torch.isfinite(own.grad).all()


@pytest.mark.parametrize("name", entries("regularizer"))
def test_a_regularizer_punishes_constants_by_one_number_with_gradient(name: str) -> None:
    """Much more than embeddings that are as they should be; the gradient pulls near ones apart."""
    penalty: Regularizer = made("regularizer", name, processes=SingleProcess())
    spread = torch.randn(256, 4, generator=torch.Generator().manual_seed(1))
    near = (1.0 + 0.01 * spread).requires_grad_()
    good, bad = (penalty(x, torch.Generator().manual_seed(0)) for x in (spread, near))
    assert good.shape == bad.shape == ()
    assert bad > 3 * good.abs() + 0.1
    bad.backward()
    assert near.grad is not None
    assert torch.isfinite(near.grad).all()
    assert near.grad.abs().sum() > 0
    equal = penalty(torch.ones(8, 4), torch.Generator().manual_seed(0))
    assert torch.isfinite(equal)
