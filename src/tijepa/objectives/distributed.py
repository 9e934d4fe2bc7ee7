"""Statistics of a batch that lies spread over several processes.

Whatever looks across items (characteristic functions, moments, sorted projections) asks these
three questions of the other processes. `SingleProcess` answers for one. In `ProcessGroup` they are
collective calls, so every process has to make the same ones in the same order.

Gradient: the loss is the same number in every process and each adds its own share to the gradient
of every row, so a row's gradient is as many times too large as there are processes. Averaging the
gradients of the weights over processes, as DistributedDataParallel does, takes exactly that away.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Distributed(Protocol):
    """What the processes that share a batch can tell one another."""

    def total(self, x: Tensor) -> Tensor:
        """The sum of `x` over processes, with gradient."""
        ...

    def rows(self, x: Tensor) -> Tensor:
        """The rows of all processes, in order of rank, with gradient."""
        ...

    def first(self, x: Tensor) -> Tensor:
        """The `x` of process 0, without gradient; all have one of the same shape."""
        ...


class SingleProcess:
    """One process: everything is here already."""

    def total(self, x: Tensor) -> Tensor:
        """`x`."""
        return x

    def rows(self, x: Tensor) -> Tensor:
        """`x`."""
        return x

    def first(self, x: Tensor) -> Tensor:
        """`x`."""
        return x


class ProcessGroup:
    """The processes of a `torch.distributed` group; the default group if none is given."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def total(self, x: Tensor) -> Tensor:
        """An all-reduce whose backward is one, too."""
        summed: Tensor = _Total.apply(x, self.group)  # type: ignore[no-untyped-call]
        return summed

    def rows(self, x: Tensor) -> Tensor:
        """Every process puts its rows in their place among zeros, and the sum is all of them.

        Processes may hold different numbers of rows.
        """
        rank, size = dist.get_rank(self.group), dist.get_world_size(self.group)
        counts = torch.zeros(size, dtype=torch.long, device=x.device)
        counts[rank] = len(x)
        counts = self.total(counts)
        before, after = int(counts[:rank].sum()), int(counts[rank + 1 :].sum())
        padded = [x.new_zeros(before, *x.shape[1:]), x, x.new_zeros(after, *x.shape[1:])]
        return self.total(torch.cat(padded))

    def first(self, x: Tensor) -> Tensor:
        """Zeros from everyone else."""
        rank = dist.get_rank(self.group)
        return self.total(x.detach() if rank == 0 else torch.zeros_like(x))


def centre(x: Float[Tensor, "b d"], processes: Distributed) -> tuple[Tensor, Float[Tensor, "b d"]]:
    """The number of rows in all processes, and the rows without the mean of all."""
    n = processes.total(x.new_full((), len(x)))  # made on the device: nobody waits
    return n, x - processes.total(x.sum(dim=0)) / n


def covariance(x: Float[Tensor, "b d"], processes: Distributed) -> Float[Tensor, "d d"]:
    """The unbiased covariance of the rows of all processes."""
    n, centred = centre(x, processes)
    return processes.total(centred.T @ centred) / (n - 1)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, group: object) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        return _summed(x, group)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        return _summed(grads[0], ctx.group), None  # type: ignore[attr-defined]


def _summed(x: Tensor, group: object) -> Tensor:
    summed = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed, group=group)
    return summed
