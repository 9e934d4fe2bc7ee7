"""The loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from tijepa.config import RunConfig
from tijepa.data.loader import Loader
from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import Tokenizer
from tijepa.embedder import Embedder
from tijepa.errors import NonFiniteError
from tijepa.evaluate.model import EvaluationSet, calibrate, measure
from tijepa.evaluate.tasks import held_out_batch, task_energies
from tijepa.evaluate.vitals import (
    Vitals,
    fused_vitals,
    target_embeddings,
    vitals,
    watched,
)
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.calibration import Calibration
from tijepa.objectives.contract import Objective
from tijepa.train.build import Compute
from tijepa.train.checkpoint import Checkpoints, RunState
from tijepa.train.clock import Clock
from tijepa.train.display import Display
from tijepa.train.guard import Guard, Health
from tijepa.train.interrupt import Interrupt
from tijepa.train.metrics import Metrics
from tijepa.train.schedule import cosine, warmup_cosine
from tijepa.train.step import Rates, Reading, training_step
from tijepa.train.turns import short_turns

__all__ = ["Learner", "Run", "fit", "rates_at"]


@dataclass(frozen=True)
class Learner:
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
class Run:
    """Everything around the learner: data, metrics, checkpoints, the guard, the console."""

    config: RunConfig
    loader: Loader
    train_items: int
    held_out: EvaluationSet | None
    calibration_pairs: EvaluationSet | None
    metrics: Metrics
    checkpoints: Checkpoints
    guard: Guard
    console: Console


def rates_at(config: RunConfig, step: int, lr_scale: float = 1.0) -> Rates:
    """Learning rate, weight decay and EMA momentum of the update after `step` updates.

    `lr_scale` is what rollbacks have made of the learning rate.
    """
    optim = config.optim
    peak = lr_scale * optim.lr
    warmup = round(optim.warmup * optim.steps)
    return Rates(
        lr=warmup_cosine(step, optim.steps, warmup, peak, optim.final_lr * peak),
        weight_decay=cosine(step, optim.steps, *optim.weight_decay),
        ema_momentum=cosine(step, optim.steps, *optim.ema_momentum),
    )


def fit(learner: Learner, run: Run, state: RunState) -> RunState:
    """Train from `state` to the last step and return where it ended.

    Ctrl-C finishes the running step, saves, and raises `KeyboardInterrupt`; a second one stops at
    once. Raises `NonFiniteError` instead of applying an update that is not finite, and
    `CollapseError` where the guard stops the run, with everything saved.
    """
    config, guard = run.config, run.guard
    steps = config.optim.steps
    clock = Clock()
    learner.model.train()
    if guard.decide(state) == "stop":  # resumed where it was stopped
        raise guard.error(state, run.checkpoints)
    with (
        Interrupt() as interrupt,
        Display(run.console, steps, state.step) as display,
        short_turns(),
        run.loader,
    ):
        batches = iter(run.loader)
        while state.step < steps:
            with clock.waiting():
                batch = next(batches)
            rates = rates_at(config, state.step, guard.lr_scale(state))
            reading = _update(learner, config, batch, rates, state.step)
            if not reading.finite:
                raise _not_finite(reading, rates, state, run)
            state = replace(state, step=state.step + 1, cursor=batch.cursor)
            clock.pairs += len(batch)
            display.stepped(state.step)

            last = state.step == steps
            if state.step % config.log.every == 0 or last:
                record = _training_record(reading, rates, state, run, clock)
                run.metrics.write(record)
                display.trained(record)
                clock.restart()
            calibration, health = None, None
            if state.step % config.log.eval_every == 0 or last:
                display.evaluating()
                calibration, measured = _evaluate(learner, run, state)
                if measured is not None:
                    state, health = guard.examine(state, measured.vitals)
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
                display.rolled_back(state)
                batches = iter(run.loader)
                clock.restart()
            elif due or stop or decision == "stop":
                _save(learner, run, state, calibration)
                clock.restart()
            if decision == "stop":
                raise guard.error(state, run.checkpoints)
            if stop:
                raise KeyboardInterrupt
    return state


def _roll_back(learner: Learner, run: Run, state: RunState, health: Health) -> RunState:
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


def _update(learner: Learner, config: RunConfig, batch: Batch, rates: Rates, step: int) -> Reading:
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
    reading: Reading, rates: Rates, state: RunState, run: Run, clock: Clock
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
        "replaced_items": len(run.loader.set_aside),
        **{name: float(value) for name, value in reading.terms.items()},
    }


@dataclass(frozen=True)
class _Measured:
    """An evaluation: what is written, what the guard judges, and whether recall says anything."""

    record: dict[str, Any]
    vitals: Vitals
    retrieves: bool  # some pooled embedding learns to find the other modality


def _evaluate(
    learner: Learner, run: Run, state: RunState
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
        record = {"kind": "eval", "step": state.step, "split": "validation", **found.results}
        record["tasks"] = tasks
        aligned = found.embeddings.texts(run.held_out.first_text)
        readings = vitals(
            aligned,
            target_embeddings(learner.model, pairs) if learned.modalities else {},
            own=embedder.before_target_norm(aligned),
            modalities=learned.modalities,
            directions=learned.directions,
        )
        readings |= fused_vitals(learner.model, pairs)
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


def _save(learner: Learner, run: Run, state: RunState, calibration: Calibration | None) -> None:
    run.checkpoints.save(
        state,
        learner.model,
        learner.objective,
        learner.optimizer,
        learner.card,
        learner.tokenizer,
        calibration,
    )


def _not_finite(reading: Reading, rates: Rates, state: RunState, run: Run) -> NonFiniteError:
    return NonFiniteError(
        f"loss {float(reading.loss)}, gradient norm {float(reading.grad_norm)} at step "
        f"{state.step + 1} with learning rate {rates.lr:.2e}; the update was not applied; "
        f"{_last_good(run)}; lower optim.lr or use compute.precision=float32"
    )


def _last_good(run: Run) -> str:
    last = run.checkpoints.last()
    return f"last good checkpoint: {last}" if last else "no checkpoint was written yet"
