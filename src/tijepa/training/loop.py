"""The loop: batches in, metrics and checkpoints out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tijepa.data.batches.loader import Loader, switch_interval
from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CollapseError, ConfigError, DataError, NonFiniteError
from tijepa.evaluate.detect import Timing
from tijepa.inference.calibration import Calibration
from tijepa.inference.results import Health, RunResults
from tijepa.io.files import check_writable
from tijepa.io.progress import Interrupt
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Objective
from tijepa.runs.report.report import write_report
from tijepa.training.callbacks import Callback, JsonLines
from tijepa.training.checkpoint import Checkpoints, RunState
from tijepa.training.evaluation import Evaluated, Evaluation
from tijepa.training.guard import Guard
from tijepa.training.optimizer import Schedule, ScheduleValues, build_optimizer
from tijepa.training.step import Compute, StepOutput, training_step

_CPU = Compute(torch.device("cpu"), torch.float32)


class Trainer:
    """Trains what it is given, all of it built: a model, an objective, a loader of batches.

    `loader` gives `Batch`es: a `Loader`, or anything that can be iterated over again and again and
    gives the same batches each time. Every step is `training_step`; at every `log_every`-th a
    record is read and told to the `callbacks`, at every `eval_every`-th the `evaluations` run,
    each a function of the model that gives figures by name (or `Evaluated`), and at every
    `save_every`-th and the best one a checkpoint is written, if there is a folder `out` for it.
    There the records stand in `metrics.jsonl`, and with `report` a page is written at the end.
    With `resume` the run in `out` goes on after its last checkpoint, as if it had never stopped:
    bit for bit on a CPU, for masks, order and schedules are functions of `seed` and step.

    `optimizer` is AdamW unless another one is given, whose groups then hold `decays` (whether
    weight decay is for them) and `lr_scale` (a factor of the rate). `guard` judges what evaluations
    say of collapse; it warns only, unless one that acts is given. `card` and `tokenizer` go into
    the checkpoints: with both, `tijepa.load` opens them. `items` is the number of training items,
    by which epochs are counted. `state` is where to begin, for a model that is restored already.

    Raises `ConfigError` for an `out` that holds other files, or a guard that cannot act.
    """

    def __init__(
        self,
        model: TextImageModel,
        objective: Objective,
        loader: Iterable[Batch],
        *,
        schedule: Schedule,
        optimizer: torch.optim.Optimizer | None = None,
        evaluations: Sequence[Evaluation] = (),
        callbacks: Sequence[Callback] = (),
        out: Path | str | None = None,
        resume: bool = False,
        report: bool = True,
        guard: Guard | None = None,
        compute: Compute = _CPU,
        accumulate: int = 1,
        clip_norm: float = 1.0,
        seed: int = 0,
        log_every: int = 20,
        eval_every: int = 300,
        save_every: int = 300,
        keep_last: int = 2,
        items: int | None = None,
        card: ModelCard | None = None,
        tokenizer: Tokenizer | None = None,
        state: RunState | None = None,
    ) -> None:
        self.model = model.to(compute.device)
        self.objective = objective.to(compute.device)
        self.loader = loader
        self.schedule = schedule
        self.optimizer = optimizer or build_optimizer(
            [model, objective], lr=schedule.lr, betas=(0.9, 0.95)
        )
        self.evaluations = evaluations
        self.out = None if out is None else Path(out)
        self.report = report
        self.guard = guard or Guard(Timing.of(schedule.steps, schedule.warmup))
        self.compute = compute
        self.accumulate, self.clip_norm, self.seed = accumulate, clip_norm, seed
        self.log_every, self.eval_every, self.save_every = log_every, eval_every, save_every
        self.items = items
        self.card, self.tokenizer = card, tokenizer
        self.callbacks = list(callbacks)
        self.checkpoints: Checkpoints | None = None
        self.state = state or RunState(step=0, cursor=0)
        if self.out is not None:
            if state is None and not resume:
                check_vacant(self.out)
            self.out.mkdir(parents=True, exist_ok=True)
            self.checkpoints = Checkpoints(self.out / "checkpoints", keep_last)
            self.callbacks.insert(0, JsonLines(self.out))
            if state is None and resume:
                self.state = self._restore(self.checkpoints.to_resume())
        elif resume or self.guard.action == "rollback":
            raise ConfigError("to resume or to roll back a run needs `out`, its folder")

    def fit(self) -> RunState:
        """Train to the last step and return where the run ended.

        Ctrl-C finishes the running step, saves, and raises `KeyboardInterrupt`; a second one stops
        at once. Raises `NonFiniteError` when it reads that an update was not finite, which was not
        applied, and `CollapseError` where the guard stops the run, with everything saved.
        """
        if self.guard.decide(self.state) == "stop":  # resumed where it was stopped
            raise self.guard.error(self.state, self.checkpoints)
        with ExitStack() as stack:
            if self.out is not None and self.report:
                stack.push(partial(_write_report, self.out))
            interrupt = stack.enter_context(Interrupt())
            for callback in self.callbacks:
                callback.on_start(self.state.step, self.schedule.steps)
                stack.callback(callback.on_end)
            stack.enter_context(switch_interval())
            if isinstance(self.loader, Loader):
                stack.enter_context(self.loader)
                self.loader.seek(self.state.cursor)
            self._train(interrupt)
        return self.state

    def _train(self, interrupt: Interrupt) -> None:
        steps, guard, state = self.schedule.steps, self.guard, self.state
        clock, unread = Throughput(), _Unread(self._last_good)
        batches = self._batches(state)
        self.model.train()
        while state.step < steps:
            with clock.waiting():
                batch = next(batches)
            values = self.schedule.at(state.step, guard.lr_scale(state))
            output = _update(self, batch, values, state.step)
            unread.add(state.step + 1, values, output)
            state = replace(state, step=state.step + 1, cursor=self._cursor(state, batch))
            clock.pairs += len(batch)

            last = state.step == steps
            record = None
            if state.step % self.log_every == 0 or last:
                unread.read()
                record = self._record(output, values, state, clock)
                clock.restart()
            for callback in self.callbacks:
                callback.on_step(state.step, record)
            health, calibration = None, None
            if state.step % self.eval_every == 0 or last:
                unread.read()
                state, health, calibration = self._evaluate(state)
                clock.restart()
            stop = interrupt.requested  # read once: what it asks for must also be saved
            due = last or state.step % self.save_every == 0 or state.best_step == state.step
            sound = health is not None and health.verdict in ("healthy", "unjudged")
            if sound and (due or guard.acts):
                state, due = replace(state, healthy_step=state.step), True
            decision = "go on" if health is None else guard.decide(state)
            if health is not None and decision == "rollback":
                state = self._roll_back(state, health.reason or "")
                batches = self._batches(state)
                clock.restart()
            elif due or stop or decision == "stop":
                unread.read()
                self._save(state, calibration)
                clock.restart()
            self.state = state
            if decision == "stop":
                raise guard.error(state, self.checkpoints)
            if stop:
                raise KeyboardInterrupt
        if not steps:  # nothing is trained: the model as it came is measured and kept
            state, _, calibration = self._evaluate(state)
            self._save(state, calibration)
            self.state = state

    def _batches(self, state: RunState) -> Iterator[Batch]:
        if isinstance(self.loader, Loader):
            return iter(self.loader)
        return _again_and_again(self.loader, state.step, self.compute.device)

    def _cursor(self, state: RunState, batch: Batch) -> int:
        return batch.cursor if isinstance(self.loader, Loader) else state.cursor + len(batch)

    def _record(
        self, output: StepOutput, values: ScheduleValues, state: RunState, clock: Throughput
    ) -> dict[str, Any]:
        """The one place where the host reads numbers of a training step."""
        rejected = self.loader.rejected if isinstance(self.loader, Loader) else ()
        return {
            "kind": "train",
            "step": state.step,
            **({} if self.items is None else {"epoch": state.cursor / self.items}),
            "pairs": state.cursor,
            "loss": float(output.loss),
            "lr": values.lr,
            "weight_decay": values.weight_decay,
            "ema_momentum": values.ema_momentum,
            "grad_norm": float(output.grad_norm),
            "pairs_per_second": clock.pairs / clock.elapsed,
            "data_wait": clock.waited / clock.elapsed,
            "replaced_items": len(rejected),
            **{name: float(value) for name, value in output.terms.items()},
        }

    def _evaluate(self, state: RunState) -> tuple[RunState, Health | None, Calibration | None]:
        """What all evaluations say together, judged by the guard and told to the callbacks."""
        for callback in self.callbacks:
            callback.on_evaluation_start(state.step)
        whole = Evaluated()
        for evaluation in self.evaluations:
            try:
                found = evaluation(self.model)
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"{error} after step {state.step}; {self._last_good()}; lower optim.lr"
                ) from None
            found = found if isinstance(found, Evaluated) else Evaluated(found)
            whole = Evaluated(
                {**whole.figures, **found.figures},
                found.collapse or whole.collapse,
                found.calibration or whole.calibration,
                found.recall if whole.recall is None else whole.recall,
                found.basis or whole.basis,
            )
        self.model.train()
        health = None
        at = {"kind": "eval", "step": state.step}
        record = at | dict(whole.figures) | at
        if whole.collapse is not None:
            epochs = state.cursor / self.items if self.items else 0.0
            state, health = self.guard.examine(state, whole.collapse, whole.basis, epochs)
            record["health"] = RunResults(health=health).to_json()["health"]
        if whole.figures:
            for callback in self.callbacks:
                callback.on_evaluation(state.step, record)
        if whole.recall is not None and (health is None or health.verdict == "healthy"):
            state = _with_best(state, whole.recall)
        return state, health, whole.calibration

    def _save(self, state: RunState, calibration: Calibration | None) -> None:
        if self.checkpoints is None:
            return
        path = self.checkpoints.save(
            state,
            self.model,
            self.objective,
            self.optimizer,
            self.card,
            self.tokenizer,
            calibration,
        )
        for callback in self.callbacks:
            callback.on_checkpoint(state.step, path)

    def _restore(self, path: Path) -> RunState:
        assert self.checkpoints is not None
        return self.checkpoints.restore(path, self.model, self.objective, self.optimizer)

    def _roll_back(self, now: RunState, reason: str) -> RunState:
        """Restore the last healthy checkpoint; model, data and metrics go on from there."""
        assert self.checkpoints is not None
        assert now.healthy_step is not None
        then = self._restore(self.checkpoints.path(now.healthy_step))
        self.model.train()
        state = self.guard.rolled_back(now, then, reason)
        self.checkpoints.rewind(state)
        if isinstance(self.loader, Loader):
            self.loader.seek(state.cursor)
        for callback in self.callbacks:
            callback.on_rollback(now.step, state.step, len(state.rollbacks))
        return state

    def _last_good(self) -> str:
        last = None if self.checkpoints is None else self.checkpoints.last()
        return f"last good checkpoint: {last}" if last else "no checkpoint was written yet"


def _update(trainer: Trainer, batch: Batch, values: ScheduleValues, step: int) -> StepOutput:
    return training_step(
        trainer.model,
        trainer.objective,
        trainer.optimizer,
        batch,
        values,
        seed=(trainer.seed, step, 0),
        compute=trainer.compute,
        accumulate=trainer.accumulate,
        clip_norm=trainer.clip_norm,
    )


def _with_best(state: RunState, recall: float) -> RunState:
    """Best is by recall; of equally good ones the first stays the best."""
    if recall <= state.best_recall:
        return state
    return replace(state, best_step=state.step, best_recall=recall)


def _again_and_again(batches: Iterable[Batch], done: int, device: torch.device) -> Iterator[Batch]:
    """The batches on the device, endlessly, without the first `done` ones."""
    while True:
        empty = True
        for batch in batches:
            empty = False
            if done:
                done -= 1
            else:
                yield batch if batch.images.device == device else batch.to(device)
        if empty:
            raise DataError("the loader gives no batch: it must give some every time it is asked")


def check_vacant(folder: Path) -> None:
    """Raise `ConfigError` where a new run's folder holds files, `CheckpointError` where none can.

    Writes nothing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is not an empty folder: resume the run there, or name another `out`"
        )
    check_writable(folder)


def _write_report(folder: Path, kind: type[BaseException] | None, *_: object) -> None:
    """Of a run that ended, or that the guard stopped."""
    if kind in (None, CollapseError):
        write_report(folder, energy=torch.zeros(0, 0), gallery=())


class _Unread:
    """Updates of which the host does not know yet whether the device applied them."""

    def __init__(self, last_good: Callable[[], str]) -> None:
        self._last_good = last_good
        self._updates: list[tuple[int, ScheduleValues, StepOutput]] = []

    def add(self, step: int, values: ScheduleValues, output: StepOutput) -> None:
        """The update to `step` was asked for."""
        self._updates.append((step, values, output))

    def read(self) -> None:
        """Raise `NonFiniteError` for the first update that was skipped, if any was."""
        updates, self._updates = self._updates, []
        if not updates:
            return
        flags = torch.stack([output.finite for _, _, output in updates]).tolist()
        for (step, values, output), finite in zip(updates, flags, strict=True):
            if not finite:
                raise NonFiniteError(
                    f"loss {float(output.loss)}, gradient norm {float(output.grad_norm)} at step "
                    f"{step} with learning rate {values.lr:.2e}; the update was not applied; "
                    f"{self._last_good()}; lower optim.lr or use compute.precision=float32"
                )


class Throughput:
    """Time and pairs since the last record, and the share of it spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, after a record or whatever a record should not count."""
        self.pairs = 0
        self.waited = 0.0
        self.start = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose time counts as waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    @property
    def elapsed(self) -> float:
        """Seconds since the last restart, never 0."""
        return max(1e-9, time.perf_counter() - self.start)
