"""Two processes with a part of the batch each compute what one with all of it computes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tijepa.config import load_config
from tijepa.model.mlp import BatchTargetNorm
from tijepa.objectives.base import Pooled
from tijepa.objectives.distributed import Distributed, ProcessGroup, SingleProcess
from tijepa.objectives.regularizers import Regularizer
from tijepa.registry import entries, part
from tijepa.training.build import build_model, build_objective

PARTS = (slice(0, 5), slice(5, 12))  # of unequal size, as where items lack a modality


def embedding() -> torch.Tensor:
    z = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.5 * z.float() + 0.3


# all that is registered, and the objectives whose whole loss looks across items (the others take
# the mean of their energies in each process)
LOSSES = [*entries("regularizer"), "barlow"]


def loss(name: str, processes: Distributed) -> Regularizer:
    """A regularizer with its default settings, or an objective of images paired with their mirror.

    The latter with heads that are linear, for BatchNorm does not look beyond its process.
    """
    if name in entries("regularizer"):
        config = entries("regularizer")[name].config
        made: Regularizer = part("regularizer", name)(
            processes=processes, **({} if config is None else config().model_dump())
        )
        return made
    own = ["model.head.depth=0", "model.image.width=4", "model.text.width=4", "model.embed_dim=4"]
    config = load_config(overrides=[f"objective.name={name}", *own])
    objective, model = build_objective(config, processes), build_model(config, 64)

    def of(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        every = np.ones(len(z), dtype=bool)
        pooled = Pooled(z, z.flip(1), None, None, every, every)
        return objective.batch_terms(model, pooled, generator).loss

    return of


def measured(z: torch.Tensor, processes: Distributed, seed: int) -> dict[str, Any]:
    """Value and gradient of every loss, and the target norm of the rows."""
    found: dict[str, Any] = {}
    for name in LOSSES:
        leaf = z.clone().requires_grad_()
        value = loss(name, processes)(leaf, torch.Generator().manual_seed(seed))
        value.backward()
        found[name] = (value.detach(), leaf.grad)
    norm = BatchTargetNorm(4, scale=True)
    found["norm"] = (norm(z, processes.total), norm.running_mean, norm.running_var)
    return found


def work(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        torch.set_num_threads(1)
        # each process has another seed: the directions must be those of process 0
        found = measured(embedding()[PARTS[rank]], ProcessGroup(), seed=rank)
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes measured on its part."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_the_whole_batch(
    name: str, apart: list[dict[str, Any]]
) -> None:
    """Averaged over processes, as data-parallel training averages: each gradient over 2."""
    value, gradient = measured(embedding(), SingleProcess(), seed=0)[name]
    for found, rows in zip(apart, PARTS, strict=True):
        torch.testing.assert_close(found[name][0], value, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found[name][1] / 2, gradient[rows], atol=1e-6, rtol=1e-4)


def test_targets_are_normalised_by_the_statistics_of_all(apart: list[dict[str, Any]]) -> None:
    rows, mean, variance = measured(embedding(), SingleProcess(), seed=0)["norm"]
    torch.testing.assert_close(torch.cat([found["norm"][0] for found in apart]), rows)
    for found in apart:
        torch.testing.assert_close(found["norm"][1], mean)
        torch.testing.assert_close(found["norm"][2], variance)


def test_a_part_alone_is_another_batch() -> None:
    """So that the tests above could fail."""
    whole, part = (measured(z, SingleProcess(), 0) for z in (embedding(), embedding()[PARTS[0]]))
    assert not torch.allclose(whole["sigreg"][0], part["sigreg"][0], rtol=1e-2)
