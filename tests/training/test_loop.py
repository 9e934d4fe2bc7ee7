from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tijepa.config import RunConfig
from tijepa.training.build import build_schedule
from tijepa.training.checkpoint import RunState
from tijepa.training.loop import _with_best

Configure = Callable[..., RunConfig]


STATE = RunState(step=9, cursor=72, best_step=6, best_recall=0.25)


def test_the_best_is_by_recall_and_of_equally_good_ones_the_first_stays() -> None:
    better = _with_best(STATE, 0.375)
    assert (better.best_step, better.best_recall) == (9, 0.375)
    assert _with_best(STATE, 0.2) == STATE
    assert _with_best(STATE, 0.25) == STATE


def test_rates_follow_their_schedules(tiny_config: Configure) -> None:
    """100 steps, 10 of warmup: lr rises by lr/10 a step, is lr at 10, half of it at 10 + 45, and
    reaches final_lr · lr = 0 at the end; decay and momentum are half-way between at step 50."""
    config = tiny_config(
        "optim.steps=100",
        "optim.warmup=0.1",
        "optim.lr=0.01",
        "optim.final_lr=0",
        "optim.weight_decay=[0.0,0.4]",
        "optim.ema_momentum=[0.9,1.0]",
        "objective.pooled_targets=ema",
    )
    schedule = build_schedule(config)
    assert schedule.at(0).lr == pytest.approx(0.001)
    assert schedule.at(4).lr == pytest.approx(0.005)
    assert schedule.at(10).lr == pytest.approx(0.01)
    assert schedule.at(55).lr == pytest.approx(0.005)
    assert schedule.at(99).lr == pytest.approx(0.01 * (1 + math.cos(math.pi * 89 / 90)) / 2)
    assert schedule.at(55, 0.25).lr == pytest.approx(0.00125)
    assert schedule.at(0).weight_decay == 0.0
    assert schedule.at(50).weight_decay == pytest.approx(0.2)
    assert schedule.at(50).ema_momentum == pytest.approx(0.95)
    assert schedule.at(100).ema_momentum == pytest.approx(1.0)
