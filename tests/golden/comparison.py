"""Is a run what was recorded: bit for bit on a like machine, within bounds on any other."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tests.golden.runs import one_thread

# elsewhere: rounding differs from the first step on and grows with the steps
LOSS_TOLERANCE = 2e-3  # relative
GRADIENT_TOLERANCE = 1e-2  # relative
FIGURE_TOLERANCE = 5e-2  # relative, of figures beyond 1
COARSE_FIGURE_TOLERANCE = 0.1  # absolute: a recall moves by 1/64 for each picture that changes rank
UNBOUNDED = ("median_rank",)  # one pair of near-equal energies moves it by any number of ranks


def fingerprint() -> str:
    """A hash of what this machine makes of a small fixed computation, and of torch's version.

    Machines of the same fingerprint are expected to train to the same bits.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    with one_thread():
        for value in _computed():
            digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _computed() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((8, 16, 16), (40, 16, 48), (128, 64, 33), (7, 300, 5)):
        x = torch.randn(rows, inner, generator=generator, requires_grad=True)
        w = torch.randn(inner, columns, generator=generator, requires_grad=True)
        y = F.layer_norm(F.gelu(x @ w), (columns,))
        z = torch.softmax(y @ y.T / columns**0.5, dim=-1) @ y
        (
            z.exp().mean() + F.smooth_l1_loss(z, y) + torch.log_softmax(z, -1).square().mean()
        ).backward()
        assert x.grad is not None
        assert w.grad is not None
        yield from (z, x.grad, w.grad)
    picture = torch.rand(4, 3, 32, 32, generator=generator)
    yield F.conv2d(picture, torch.randn(8, 3, 3, 3, generator=generator), stride=2)
    sample = torch.randn(64, 12, generator=generator, dtype=torch.float64)
    covariance = sample.T @ sample
    yield torch.linalg.eigvalsh(covariance)
    yield torch.linalg.cholesky(covariance)
    yield torch.linalg.solve(covariance, sample.T)


def machine() -> dict[str, Any]:
    """What a record says of the machine that it was made on."""
    return {
        "fingerprint": fingerprint(),
        "torch": torch.__version__,
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def differences(found: dict[str, Any], recorded: dict[str, Any], *, exact: bool) -> list[str]:
    """One line for each thing in which `found` is not what was `recorded`."""
    lines = []
    if found["steps"] != recorded["steps"]:
        lines.append(f"steps are {found['steps']}, recorded {recorded['steps']}")
    for name, bound in (("loss", LOSS_TOLERANCE), ("grad_norm", GRADIENT_TOLERANCE)):
        lines += _of_steps(name, found[name], recorded[name], 0.0 if exact else bound)
    lines += _of_figures(found["figures"], recorded["figures"], exact)
    if exact:
        lines += _of_hashes(found, recorded)
    return lines


def _of_steps(
    name: str, found: Sequence[float], recorded: Sequence[float], bound: float
) -> Iterator[str]:
    if len(found) != len(recorded):
        yield f"{name} has {len(found)} steps, recorded {len(recorded)}"
        return
    for step, (value, before) in enumerate(zip(found, recorded, strict=True), 1):
        if not math.isclose(value, before, rel_tol=bound, abs_tol=0.0):
            yield f"{name} of step {step} is {value!r}, recorded {before!r}"


def _of_figures(
    found: dict[str, float | None], recorded: dict[str, float | None], exact: bool
) -> Iterator[str]:
    for key in sorted(found.keys() | recorded.keys()):
        if key not in found or key not in recorded:
            yield f"{key} is {'new' if key in found else 'gone'}"
            continue
        value, before = found[key], recorded[key]
        if exact or value is None or before is None:
            same = value == before
        elif key.endswith(UNBOUNDED):
            same = math.isfinite(value)
        else:
            same = math.isclose(
                value, before, rel_tol=FIGURE_TOLERANCE, abs_tol=COARSE_FIGURE_TOLERANCE
            )
        if not same:
            yield f"{key} is {value!r}, recorded {before!r}"


def _of_hashes(found: dict[str, Any], recorded: dict[str, Any]) -> Iterator[str]:
    for name in ("weights", "calibration"):
        by_value = f"{name}_by_value"
        if found[by_value] != recorded[by_value]:
            yield f"{name} have other values than recorded"
        elif found[name] != recorded[name]:
            yield f"{name} have the recorded values under other names: a parameter was renamed"


def recording() -> bool:
    """Whether what is recorded is to be written anew."""
    return os.environ.get("TIJEPA_RECORD_GOLDEN") == "1"
