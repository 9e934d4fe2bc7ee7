"""The collapse guard at work: what a verdict does to the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tijepa.config import RunConfig
from tijepa.errors import CollapseError, ConfigError
from tijepa.evaluate.advice import advice
from tijepa.evaluate.collapse_metrics import CollapseMetrics
from tijepa.evaluate.detect import Basis, Timing, detect
from tijepa.inference.results import Health, Rollback
from tijepa.training.checkpoint import Checkpoints, RunState
from tijepa.training.optimizer import Schedule


@dataclass(frozen=True)
class Guard:
    """Judges evaluations and decides; everything it remembers is in the `RunState`.

    With the defaults it warns, and gives no advice, for it knows no `settings` of the run.
    """

    timing: Timing
    action: Literal["warn", "stop", "rollback"] = "warn"
    patience: int = 1
    lr_factor: float = 1.0
    max_rollbacks: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Whether it may do more than warn."""
        return self.action != "warn"

    def lr_scale(self, state: RunState) -> float:
        """What the scheduled learning rate is multiplied by."""
        return self.lr_factor ** len(state.rollbacks)

    def examine(
        self,
        state: RunState,
        readings: CollapseMetrics,
        basis: Basis | None = None,
        epochs: float = 0.0,
    ) -> tuple[RunState, Health]:
        """The state that remembers these readings, and the verdict on them.

        `basis` is what they rest on; `epochs` how often every pair was seen, for the advice.
        """
        tracks, health = detect(state.tracks, readings, state.step, self.timing, basis)
        health = replace(
            health,
            advice=tuple(advice(health.findings, self.settings, epochs)) if self.settings else (),
            readings=readings,
            rollbacks=state.rollbacks,
        )
        in_a_row = state.collapsed_in_a_row + 1 if health.verdict == "collapsed" else 0
        return replace(state, tracks=tracks, collapsed_in_a_row=in_a_row), health

    def decide(self, state: RunState) -> Literal["go on", "stop", "rollback"]:
        """What to do now, from the state alone, so that a resumed run decides the same."""
        if not self.acts or state.collapsed_in_a_row < self.patience:
            return "go on"
        spent = len(state.rollbacks) >= self.max_rollbacks
        if self.action == "stop" or state.healthy_step is None or spent:
            return "stop"
        return "rollback"

    def rolled_back(self, now: RunState, then: RunState, reason: str) -> RunState:
        """The state of the healthy checkpoint, `then`, as it goes on after the collapse `now`."""
        step = Rollback(from_step=now.step, to_step=then.step, reason=reason)
        return replace(then, rollbacks=(*now.rollbacks, step))

    def error(self, state: RunState, checkpoints: Checkpoints | None) -> CollapseError:
        """Why the run stops, the checkpoint to go on from, and what usually helps."""
        lost = {name: track for name, track in state.tracks.items() if track.level == 2}
        which = ", ".join(
            f"{name.replace('_', ' ')} since step {track.since:,}" for name, track in lost.items()
        )
        healthy = "no checkpoint was healthy"
        if checkpoints is not None and state.healthy_step is not None:
            healthy = f"last healthy checkpoint: {checkpoints.path(state.healthy_step)}"
        tried = f" after {len(state.rollbacks)} rollbacks" if state.rollbacks else ""
        return CollapseError(
            f"stopped by guard.action={self.action} at step {state.step:,}{tried}: collapsed"
            f" ({which}); {healthy}; the report tells what usually helps"
        )


def build_guard(config: RunConfig, schedule: Schedule, *, measured: bool) -> Guard:
    """The guard of a run; `ConfigError` where it should act and nothing is `measured`."""
    guard = config.guard
    if guard.action != "warn" and not measured:
        raise ConfigError(
            f"guard.action is '{guard.action}', but there are no validation pairs to judge by: add"
            " a validation split, or use guard.action=warn"
        )
    return Guard(
        action=guard.action,
        patience=guard.patience,
        lr_factor=guard.lr_factor,
        max_rollbacks=guard.max_rollbacks,
        timing=Timing.of(schedule.steps, schedule.warmup),
        settings=config.settings(),
    )
