"""The loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from tijepa.config import RunConfig
from tijepa.data.batches.loader import Loader
from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import NonFiniteError
from tijepa.evaluate.collapse_metrics import (
    CollapseMetrics,
    collapse_metrics,
    fused_metrics,
    target_embeddings,
    watched,
)
from tijepa.evaluate.measure import EvaluationSet, calibrate, measure
from tijepa.evaluate.tasks import held_out_batch, task_energies
from tijepa.inference.calibration import Calibration
from tijepa.inference.embedder import Embedder
from tijepa.io.progress import Interrupt, Reporter
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective
from tijepa.training.build import Compute
from tijepa.training.checkpoint import Checkpoints, RunState
from tijepa.training.guard import Guard, Health
from tijepa.training.logging import Metrics
from tijepa.training.optimizer import cosine, warmup_cosine
from tijepa.training.step import ScheduleValues, StepOutput, training_step

__all__ = ["RunContext", "Throughput", "TrainState", "fit", "rates_at", "switch_interval"]


@dataclass(frozen=True)
class TrainState:
    """What is trained, and what saving it needs."""

    model: TextImageModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    tokenizer: Tokenizer
    card: ModelCard
    compute: Compute

    def embedder(self) -> Embedder:
        """The model in its present state, for evaluation."""
        return Embedder(self.model, self.tokenizer, self.card, device=self.compute.device)


@dataclass(frozen=True)
class RunContext:
    """Everything around the learner: data, metrics, checkpoints, the guard, the console."""

    config: RunConfig
    loader: Loader
    train_items: int
    held_out: EvaluationSet | None
    calibration_pairs: EvaluationSet | None
    metrics: Metrics
    checkpoints: Checkpoints
    guard: Guard
    reporter: Reporter


def rates_at(config: RunConfig, step: int, lr_scale: float = 1.0) -> ScheduleValues:
    """Learning rate, weight decay and EMA momentum of the update after `step` updates.

    `lr_scale` is what rollbacks have made of the learning rate.
    """
    optim = config.optim
    peak = lr_scale * optim.lr
    warmup = round(optim.warmup * optim.steps)
    return ScheduleValues(
        lr=warmup_cosine(step, optim.steps, warmup, peak, optim.final_lr * peak),
        weight_decay=cosine(step, optim.steps, *optim.weight_decay),
        ema_momentum=cosine(step, optim.steps, *optim.ema_momentum),
    )


def fit(learner: TrainState, run: RunContext, state: RunState) -> RunState:
    """Train from `state` to the last step and return where it ended.

    Ctrl-C finishes the running step, saves, and raises `KeyboardInterrupt`; a second one stops at
    once. Raises `NonFiniteError` instead of applying an update that is not finite, and
    `CollapseError` where the guard stops the run, with everything saved.
    """
    config, guard = run.config, run.guard
    steps = config.optim.steps
    clock = Throughput()
    unread = _Unread(run.checkpoints)
    learner.model.train()
    if guard.decide(state) == "stop":  # resumed where it was stopped
        raise guard.error(state, run.checkpoints)
    with (
        Interrupt() as interrupt,
        run.reporter.training(steps, state.step) as display,
        switch_interval(),
        run.loader,
    ):
        batches = iter(run.loader)
        while state.step < steps:
            with clock.waiting():
                batch = next(batches)
            rates = rates_at(config, state.step, guard.lr_scale(state))
            reading = _update(learner, config, batch, rates, state.step)
            unread.add(state.step + 1, rates, reading)
            state = replace(state, step=state.step + 1, cursor=batch.cursor)
            clock.pairs += len(batch)
            display.stepped(state.step)

            last = state.step == steps
            if state.step % config.log.every == 0 or last:
                unread.read()
                record = _training_record(reading, rates, state, run, clock)
                run.metrics.write(record)
                display.trained(record)
                clock.restart()
            calibration, health = None, None
            if state.step % config.log.eval_every == 0 or last:
                unread.read()
                display.evaluating()
                calibration, measured = _evaluate(learner, run, state)
                if measured is not None:
                    state, health = guard.examine(state, measured.collapse_metrics)
                    record = measured.record | {"health": health.record}
                    run.metrics.write(record)
                    display.evaluated(record)
                    if measured.retrieves:
                        state = _with_best(state, record)
                clock.restart()
            stop = interrupt.requested  # read once: what it asks for must also be saved
            due = last or state.step % config.log.save_every == 0 or state.best_step == state.step
            if health is not None and health.verdict == "healthy" and (due or guard.acts):
                state, due = replace(state, healthy_step=state.step), True
            decision = "go on" if health is None else guard.decide(state)
            if health is not None and decision == "rollback":
                state = _roll_back(learner, run, state, health)
                back = state.rollbacks[-1]
                display.rolled_back(back.from_step, back.to_step, len(state.rollbacks))
                batches = iter(run.loader)
                clock.restart()
            elif due or stop or decision == "stop":
                unread.read()
                _save(learner, run, state, calibration)
                clock.restart()
            if decision == "stop":
                raise guard.error(state, run.checkpoints)
            if stop:
                raise KeyboardInterrupt
    return state


def _roll_back(learner: TrainState, run: RunContext, state: RunState, health: Health) -> RunState:
    """Restore the last healthy checkpoint; model, data and metrics go on from there."""
    assert state.healthy_step is not None
    then = run.checkpoints.restore(
        run.checkpoints.path(state.healthy_step),
        learner.model,
        learner.objective,
        learner.optimizer,
    )
    learner.model.train()
    state = run.guard.rolled_back(state, then, health.record["reason"])
    run.checkpoints.rewind(state)
    run.metrics.rewind(state.step)
    run.loader.seek(state.cursor)
    return state


def _update(
    learner: TrainState, config: RunConfig, batch: Batch, rates: ScheduleValues, step: int
) -> StepOutput:
    return training_step(
        learner.model,
        learner.objective,
        learner.optimizer,
        batch,
        rates,
        seed=(config.seed, step, 0),
        compute=learner.compute,
        accumulate=config.optim.accumulate,
        clip_norm=config.optim.clip_norm,
    )


def _training_record(
    reading: StepOutput, rates: ScheduleValues, state: RunState, run: RunContext, clock: Throughput
) -> dict[str, Any]:
    """The one place where the host reads numbers of a training step."""
    return {
        "kind": "train",
        "step": state.step,
        "epoch": state.cursor / run.train_items,
        "pairs": state.cursor,
        "loss": float(reading.loss),
        "lr": rates.lr,
        "weight_decay": rates.weight_decay,
        "ema_momentum": rates.ema_momentum,
        "grad_norm": float(reading.grad_norm),
        "pairs_per_second": clock.pairs / clock.elapsed,
        "data_wait": clock.waited / clock.elapsed,
        "replaced_items": len(run.loader.rejected),
        **{name: float(value) for name, value in reading.terms.items()},
    }


@dataclass(frozen=True)
class _Measured:
    """An evaluation: what is written, what the guard judges, and whether recall says anything."""

    record: dict[str, Any]
    collapse_metrics: CollapseMetrics
    retrieves: bool  # some pooled embedding learns to find the other modality


def _evaluate(
    learner: TrainState, run: RunContext, state: RunState
) -> tuple[Calibration | None, _Measured | None]:
    """Calibrate on training and held-out pairs, measure on held-out ones.

    Raises `NonFiniteError` where the model's embeddings are not finite: then its weights are not
    worth saving.
    """
    start = time.perf_counter()
    embedder = learner.embedder()
    if run.calibration_pairs is not None:
        try:
            embedder.calibration = calibrate(embedder, run.calibration_pairs, run.held_out)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error} after step {state.step}; {_last_good(run)}; lower optim.lr"
            ) from None
    measured = None
    if run.held_out is not None:
        pairs = held_out_batch(run.held_out, learner.tokenizer, learner.card.max_tokens)
        pairs = pairs.to(learner.compute.device)
        tasks = task_energies(learner.model, learner.objective, pairs)
        learned = watched(tasks)
        found = measure(embedder, run.held_out, learned)
        results = replace(found.results, step=state.step, split="validation")
        record = {"kind": "eval", **results.to_json()}
        record["tasks"] = tasks
        aligned = found.embeddings.texts(run.held_out.first_text)
        readings = collapse_metrics(
            aligned,
            target_embeddings(learner.model, pairs) if learned.modalities else {},
            own=embedder.backend.before_target_norm(aligned),
            modalities=learned.modalities,
            directions=learned.directions,
        )
        readings |= fused_metrics(learner.model, pairs)
        record["seconds"] = time.perf_counter() - start
        measured = _Measured(record, readings, retrieves=bool(learned.directions))
    learner.model.train()
    return embedder.calibration, measured


def _with_best(state: RunState, record: dict[str, Any]) -> RunState:
    """Best is by mean recall at 1 of both directions, among evaluations found healthy."""
    retrieval = record["retrieval"]
    recall = (
        retrieval["image_to_text"]["recall_at_1"] + retrieval["text_to_image"]["recall_at_1"]
    ) / 2
    if record["health"]["verdict"] != "healthy" or recall <= state.best_recall:
        return state
    return replace(state, best_step=state.step, best_recall=recall)


def _save(
    learner: TrainState, run: RunContext, state: RunState, calibration: Calibration | None
) -> None:
    run.checkpoints.save(
        state,
        learner.model,
        learner.objective,
        learner.optimizer,
        learner.card,
        learner.tokenizer,
        calibration,
    )


class _Unread:
    """Updates of which the host does not know yet whether the device applied them."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._updates: list[tuple[int, ScheduleValues, StepOutput]] = []

    def add(self, step: int, rates: ScheduleValues, output: StepOutput) -> None:
        """The update to `step` was asked for."""
        self._updates.append((step, rates, output))

    def read(self) -> None:
        """Raise `NonFiniteError` for the first update that was skipped, if any was."""
        updates, self._updates = self._updates, []
        if not updates:
            return
        flags = torch.stack([output.finite for _, _, output in updates]).tolist()
        for (step, rates, output), finite in zip(updates, flags, strict=True):
            if not finite:
                last = self._checkpoints.last()
                good = f"last good checkpoint: {last}" if last else "no checkpoint was written yet"
                raise NonFiniteError(
                    f"loss {float(output.loss)}, gradient norm {float(output.grad_norm)} at step "
                    f"{step} with learning rate {rates.lr:.2e}; the update was not applied; "
                    f"{good}; lower optim.lr or use compute.precision=float32"
                )


# What a training record says of time: pairs, seconds, and the share spent waiting for data.


class Throughput:
    """Time and pairs since the last record, and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, after a record or whatever a record should not count."""
        self.pairs = 0
        self.waited = 0.0
        self.start = time.perf_counter()

    def waiting(self) -> _Waiting:
        """A context whose time counts as waiting for data."""
        return _Waiting(self)

    @property
    def elapsed(self) -> float:
        """Seconds since the last restart, never 0."""
        return max(1e-9, time.perf_counter() - self.start)


class _Waiting:
    def __init__(self, clock: Throughput) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.waited += time.perf_counter() - self._start


# How long one Python thread may keep the others waiting.


@contextmanager
def switch_interval(seconds: float = 5e-4) -> Iterator[None]:
    """Let threads take turns after half a millisecond instead of Python's five.

    A loader thread that makes items in Python (the scenes) otherwise keeps the lock for five
    milliseconds whenever the training thread asks for the next batch, which lies ready: 2.5 % of
    the demo's step, and 0.7 to 1.0 % with short turns (docs/log.md).
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
