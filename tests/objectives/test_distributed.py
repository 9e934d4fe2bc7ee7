"""Two processes with a part of the batch each compute what one with all of it computes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tijepa.model.mlp import BatchTargetNorm
from tijepa.objectives.distributed import Distributed, ProcessGroup, SingleProcess
from tijepa.objectives.regularizers import Regularizer, SIGReg, VICReg, VISReg

PARTS = (slice(0, 5), slice(5, 12))  # of unequal size, as where items lack a modality


def embedding() -> torch.Tensor:
    z = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 0.5 * z.float() + 0.3


def penalties(processes: Distributed) -> dict[str, Regularizer]:
    return {
        "sigreg": SIGReg(slices=8, processes=processes),
        "vicreg": VICReg(processes=processes),
        "visreg": VISReg(slices=8, processes=processes),
    }


def measured(z: torch.Tensor, processes: Distributed, seed: int) -> dict[str, Any]:
    """Value and gradient of every penalty, and the target norm of the rows."""
    found: dict[str, Any] = {}
    for name, penalty in penalties(processes).items():
        leaf = z.clone().requires_grad_()
        value = penalty(leaf, torch.Generator().manual_seed(seed))
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


@pytest.mark.parametrize("name", ["sigreg", "vicreg", "visreg"])
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
