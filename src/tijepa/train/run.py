"""A run from beginning to end: open data, build, train, evaluate, report."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.loader import Loader
from tijepa.data.pairs import PairSource, PairSplits
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, DataError
from tijepa.evaluate.model import EvaluationSet, evaluation_set
from tijepa.evaluate.run import finish_run
from tijepa.model.saving import ModelCard, write_json
from tijepa.train.build import (
    build_model,
    build_objective,
    model_arguments,
    parameter_counts,
    resolve_compute,
)
from tijepa.train.checkpoint import Checkpoints, RunState
from tijepa.train.loop import Learner, Run, fit
from tijepa.train.metrics import Metrics
from tijepa.train.optimizer import build_optimizer
from tijepa.version import __version__

__all__ = ["train"]

CALIBRATION_PAIRS = 2048
TOKENIZER_CAPTIONS = 200_000


def train(
    config: RunConfig, run_dir: Path, *, resume: bool = False, console: Console | None = None
) -> Path:
    """Train one model into `run_dir` and return that folder.

    With `resume`, continue from the last checkpoint there, to the same losses as a run that was
    never interrupted (bit for bit on a CPU). At the end the model is evaluated on the test split
    and a report is written. Raises the errors of `tijepa.errors`; `KeyboardInterrupt` after Ctrl-C,
    with everything saved.
    """
    console = console or Console()
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    compute = resolve_compute(config)
    splits = open_splits(
        config.data.source,
        image_size=config.data.image_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
    )
    source = splits.split("train")
    tokenizer = _tokenizer(run_dir, source, config, resume)
    held_out = _held_out(splits, config)

    model = build_model(config, tokenizer.vocab_size).to(compute.device)
    objective = build_objective(config).to(compute.device)
    optimizer = build_optimizer([model, objective], lr=config.optim.lr, betas=config.optim.betas)
    card = ModelCard(
        arguments=model_arguments(config, tokenizer.vocab_size),
        objective=config.objective.name,
        image_size=config.data.image_size,
        max_tokens=config.data.max_tokens,
    )
    learner = Learner(model, objective, optimizer, tokenizer, card, compute)
    if config.compute.compile:
        for part in (model.context.image, model.context.text):
            part.compile()

    checkpoints = Checkpoints(run_dir / "checkpoints", config.log.keep_last)
    state = RunState(step=0, cursor=0)
    if resume:
        last = checkpoints.last()
        if last is None:
            raise CheckpointError(
                f"{run_dir} has no checkpoint to resume from; start without --resume"
            )
        state = checkpoints.restore(last, model, objective, optimizer)
    else:
        _begin(run_dir, config, splits, tokenizer, parameter_counts(model))
    loader = Loader(
        source,
        tokenizer,
        batch_size=config.optim.batch_size,
        image_size=config.data.image_size,
        max_tokens=config.data.max_tokens,
        seed=config.seed,
        crop_scale=config.data.crop_scale,
        flip=config.data.flip,
        threads=config.data.threads,
        cursor=state.cursor,
    )
    metrics = Metrics(
        run_dir,
        tensorboard=config.log.tensorboard,
        wandb=config.log.wandb,
        after_step=state.step if resume else None,
    )
    calibration_pairs = _calibration_pairs(source, config)
    run = Run(
        config=config,
        loader=loader,
        train_items=len(source),
        held_out=held_out,
        calibration_pairs=calibration_pairs,
        metrics=metrics,
        checkpoints=checkpoints,
        console=console,
    )
    _announce(console, run_dir, splits, learner, state, config)
    try:
        state = fit(learner, run, state)
    except KeyboardInterrupt:
        console.print(
            f"stopped; everything is saved. Continue with: tijepa train --resume --out {run_dir}"
        )
        raise
    finally:
        metrics.close()
        _list_set_aside(run_dir, splits, loader)
    finish_run(run_dir, config, splits, console)
    return run_dir


def _tokenizer(run_dir: Path, source: PairSource, config: RunConfig, resume: bool) -> Tokenizer:
    """Train on the training captions, or take the run's own."""
    if resume:
        return Tokenizer.load(run_dir / "tokenizer.json")
    count = min(len(source), TOKENIZER_CAPTIONS)
    captions = (caption for index in range(count) for caption in source.captions(index))
    return Tokenizer.train(captions, config.data.vocab_size)


def _held_out(splits: PairSplits, config: RunConfig) -> EvaluationSet | None:
    if "validation" not in splits.splits:
        return None
    return evaluation_set(
        splits.split("validation"),
        items=config.data.eval_items,
        captions=config.data.eval_captions,
        image_size=config.data.image_size,
    )


def _calibration_pairs(source: PairSource, config: RunConfig) -> EvaluationSet | None:
    """Training pairs for the residual Gaussians; None where the split has no pairs at all."""
    try:
        return evaluation_set(
            source, items=CALIBRATION_PAIRS, captions=1, image_size=config.data.image_size
        )
    except DataError:
        return None


def _begin(
    run_dir: Path,
    config: RunConfig,
    splits: PairSplits,
    tokenizer: Tokenizer,
    parameters: Mapping[str, int],
) -> None:
    """Create the run folder: configuration, environment, tokenizer."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"cannot write to {run_dir}: {error.strerror}; choose another --out"
        ) from None
    tokenizer.save(run_dir / "tokenizer.json")
    write_json(
        {
            "tijepa": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
            "seed": config.seed,
            "data": splits.description,
            "items": {name: len(source) for name, source in splits.splits.items()},
            "vocabulary": tokenizer.vocab_size,
            "parameters": dict(parameters),
        },
        run_dir / "environment.json",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _list_set_aside(run_dir: Path, splits: PairSplits, loader: Loader) -> None:
    items = [*splits.set_aside, *loader.set_aside]
    if items:
        lines = "".join(json.dumps(asdict(item)) + "\n" for item in items)
        (run_dir / "set_aside.jsonl").write_text(lines, encoding="utf-8")


def _announce(
    console: Console,
    run_dir: Path,
    splits: PairSplits,
    learner: Learner,
    state: RunState,
    config: RunConfig,
) -> None:
    counts: dict[str, Any] = parameter_counts(learner.model)
    total = sum(counts.values())
    precision = str(learner.compute.precision).removeprefix("torch.")
    console.print(f"data      {splits.description}", highlight=False)
    if splits.set_aside:
        console.print(
            f"set aside {len(splits.set_aside)} items, listed in {run_dir / 'set_aside.jsonl'}",
            highlight=False,
        )
    console.print(
        f"objective {config.objective.name}, {total / 1e6:.2f} M parameters", highlight=False
    )
    console.print(
        f"compute   {learner.compute.device}, {precision}, steps {state.step} to "
        f"{config.optim.steps} of {config.optim.batch_size} pairs; results in {run_dir}",
        highlight=False,
    )
