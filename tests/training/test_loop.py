from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tijepa.config import RunConfig
from tijepa.training.checkpoint import RunState
from tijepa.training.loop import _with_best, rates_at

Configure = Callable[..., RunConfig]


def record(forth: float, back: float, verdict: str = "healthy") -> dict[str, Any]:
    return {
        "retrieval": {
            "image_to_text": {"recall_at_1": forth},
            "text_to_image": {"recall_at_1": back},
        },
        "health": {"verdict": verdict},
    }


STATE = RunState(step=9, cursor=72, best_step=6, best_recall=0.25)


def test_the_best_is_by_the_mean_recall_of_both_directions() -> None:
    assert _with_best(STATE, record(0.5, 0.25)).best_step == 9
    assert _with_best(STATE, record(0.5, 0.25)).best_recall == 0.375
    assert _with_best(STATE, record(0.4, 0.0)) == STATE


def test_of_equally_good_ones_the_first_stays_the_best() -> None:
    assert _with_best(STATE, record(0.25, 0.25)) == STATE


def test_only_a_healthy_model_can_be_the_best() -> None:
    for verdict in ("early", "degrading", "collapsed"):
        assert _with_best(STATE, record(1.0, 1.0, verdict)) == STATE
    fresh = RunState(step=3, cursor=24)
    assert _with_best(fresh, record(0.0, 0.0, "collapsed")).best_step is None
    assert _with_best(fresh, record(0.0, 0.0)).best_step == 3


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
    assert rates_at(config, 0).lr == pytest.approx(0.001)
    assert rates_at(config, 4).lr == pytest.approx(0.005)
    assert rates_at(config, 10).lr == pytest.approx(0.01)
    assert rates_at(config, 55).lr == pytest.approx(0.005)
    assert rates_at(config, 99).lr == pytest.approx(0.01 * (1 + math.cos(math.pi * 89 / 90)) / 2)
    assert rates_at(config, 55, 0.25).lr == pytest.approx(0.00125)
    assert rates_at(config, 0).weight_decay == 0.0
    assert rates_at(config, 50).weight_decay == pytest.approx(0.2)
    assert rates_at(config, 50).ema_momentum == pytest.approx(0.95)
    assert rates_at(config, 100).ema_momentum == pytest.approx(1.0)
