"""What one training step costs: precision, attention, tasks and regularizers, side by side.

    python benchmarks/step.py [--quick] [--threads 1] [--out FILE]

Variants take turns, so that a busy machine hurts all of them alike; figures are medians, and the
ratios to the first variant are what to read.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F

from record import RESULTS, write_record
from tijepa.config import load_config
from tijepa.data.pairs import Batch
from tijepa.objectives.regularizers import Regularizer, SIGReg, VICReg, VISReg
from tijepa.training.build import build_model, build_objective, build_schedule, resolve_compute
from tijepa.training.optimizer import build_optimizer
from tijepa.training.step import training_step

VARIANTS = {
    "tijepa, bf16": ["compute.precision=bfloat16"],
    "tijepa, float32": ["compute.precision=float32"],
    "tijepa, bf16, accumulate 4": ["compute.precision=bfloat16", "optim.accumulate=4"],
    "tijepa, bf16, EMA targets": ["compute.precision=bfloat16", "objective.pooled_targets=ema"],
    "tijepa, bf16, + text_infill": [
        "compute.precision=bfloat16",
        "objective.tasks.text_infill=0.5",
    ],
    "tijepa, bf16, + cross-modal tokens": [
        "compute.precision=bfloat16",
        "objective.tasks.text_to_image.tokens=1",
        "objective.tasks.image_to_text.tokens=1",
    ],
    "clip, bf16": ["compute.precision=bfloat16", "objective.name=clip"],
}
TOKENS = (16, 24, 32, 48, 64)
BATCHES = (64, 256)


def stepper(overrides: list[str]) -> Callable[[], None]:
    """A function that does one training step of the scenes' model on random data, batch 64."""
    config = load_config("scenes", overrides=overrides)
    model = build_model(config, 264).train()
    objective = build_objective(config)
    optimizer = build_optimizer([model, objective], lr=1e-3, betas=config.optim.betas)
    compute = resolve_compute(config)
    generator = torch.Generator().manual_seed(0)
    every = torch.ones(64, dtype=torch.bool)
    lengths = torch.randint(12, 25, (64, 1), generator=generator)
    batch = Batch(
        images=torch.rand(64, 3, 64, 64, generator=generator) * 2 - 1,
        has_image=every,
        tokens=torch.randint(3, 264, (64, 24), generator=generator),
        token_mask=torch.arange(24)[None] < lengths,
        has_text=every,
        indices=torch.arange(64),
        cursor=64,
    )

    def step() -> None:
        training_step(
            model,
            objective,
            optimizer,
            batch,
            build_schedule(config).at(1),
            seed=(0, 1, 0),
            compute=compute,
            accumulate=config.optim.accumulate,
        )

    return step


def attention(tokens: int, explicit: bool) -> Callable[[], None]:
    """A function that runs attention forward and backward at batch 64, 4 heads of 32, float32."""
    q, k, v = (torch.randn(64, 4, tokens, 32, requires_grad=True) for _ in range(3))
    mask = torch.ones(64, 1, 1, tokens, dtype=torch.bool)

    def run() -> None:
        if explicit:
            scores = (q * 32**-0.5) @ k.transpose(-2, -1)
            out = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out.sum().backward()

    return run


def direct_sigreg(embedding: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """SIGReg as its formula stands: a sine and a cosine for each of 17 knots."""
    t = torch.linspace(0.0, 3.0, 17)
    gaussian = torch.exp(-t.square() / 2)
    weight = torch.full((17,), 0.375)
    weight[[0, -1]] /= 2
    directions = torch.randn(embedding.shape[1], 256, generator=generator)
    angle = (embedding @ (directions / directions.norm(dim=0)))[:, :, None] * t
    error = (angle.cos().mean(dim=0) - gaussian).square() + angle.sin().mean(dim=0).square()
    return len(embedding) * (error * weight * gaussian).sum(dim=-1).mean()


def regularizer(penalty: Regularizer, batch: int) -> Callable[[], None]:
    """A function that runs a penalty forward and backward on embeddings of 64 dimensions."""
    z = torch.randn(batch, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def run() -> None:
        penalty(z, torch.Generator().manual_seed(1)).backward()

    return run


def race(variants: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every variant, taking turns."""
    for run in variants.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            before = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - before))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/step.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    repeats = 3 if options.quick else 25
    steps = race({name: stepper(overrides) for name, overrides in VARIANTS.items()}, repeats)
    first = median(next(iter(steps.values())))
    payload: dict[str, Any] = {
        "seeds": [0],
        "threads": options.threads,
        "steps": {},
        "attention": {},
        "regularizers": {},
    }
    for name, taken in steps.items():
        ratio = median(taken) / first
        payload["steps"][name] = {"median_ms": median(taken), "ratio": ratio, "raw_ms": taken}
        print(f"{name:<36} {median(taken):7.1f} ms   x {ratio:.2f}")
    for tokens in TOKENS:
        taken = race(
            {"explicit": attention(tokens, True), "fused": attention(tokens, False)}, repeats
        )
        medians = {name: median(times) for name, times in taken.items()}
        ratio = medians["fused"] / medians["explicit"]
        payload["attention"][str(tokens)] = {**medians, "fused_to_explicit": ratio}
        print(f"attention, {tokens} tokens: fused takes {ratio:.2f} x explicit")
    penalties: dict[str, Regularizer] = {
        "SIGReg": SIGReg(),
        "SIGReg, sine by sine": direct_sigreg,
        "VISReg": VISReg(),
        "VICReg": VICReg(),
    }
    for size in BATCHES:
        runs = {name: regularizer(penalty, size) for name, penalty in penalties.items()}
        medians = {name: median(times) for name, times in race(runs, repeats).items()}
        payload["regularizers"][str(size)] = {
            name: {"median_ms": taken, "ratio": taken / medians["SIGReg"]}
            for name, taken in medians.items()
        }
        for name, taken in medians.items():
            ratio = taken / medians["SIGReg"]
            print(f"batch {size}, {name:<22} {taken:7.2f} ms   x {ratio:.2f} of SIGReg")
    out = options.out or (RESULTS / "step.quick.json" if options.quick else None)
    print(f"written to {write_record('step', payload, out)}")


if __name__ == "__main__":
    main()
