from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tijepa.cli.display import Display
from tijepa.io.formatting import duration

TRAIN = {"kind": "train", "step": 20, "loss": 1.25, "pairs_per_second": 210.4}


def evaluation(**readings: Any) -> dict[str, Any]:
    modality = {"effective_rank": 12.0, "dimensions": 64, **readings}
    return {
        "kind": "eval",
        "step": 30,
        "retrieval": {
            "image_to_text": {"recall_at_1": 0.5},
            "text_to_image": {"recall_at_1": 0.25},
            "chance_at_1": 0.002,
        },
        "collapse": {"image": modality, "text": modality, "verdict": "collapsed"},
        "health": {"verdict": "healthy", "reason": "all is well", "advice": []},
    }


def shown(show: Callable[[Display], None], *, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, no_color=False, width=100)
    display = Display(console)
    display.on_start(10, 40)
    show(display)
    display.on_end()
    return output.getvalue()


def a_while(display: Display) -> None:
    display.on_step(19, None)
    display.on_step(20, TRAIN)
    display.on_evaluation_start(20)
    display.on_evaluation(30, evaluation())


def test_without_a_terminal_lines_are_plain_and_whole() -> None:
    """No control codes, no wrapping at 100 columns."""
    first, second, rest = shown(a_while, terminal=False).split("\n")
    assert first.startswith("step     20 of 40  loss 1.2500 · 210 pairs/s · 0 s left")
    assert second.replace("\N{NO-BREAK SPACE}", " ") == (
        "step     30  held-out recall@1 image→text 50.0 %, text→image 25.0 % (chance 0.2 %)"
        "  rank 12.0/12.0 of 64  healthy"
    )
    assert rest == ""


def test_on_a_terminal_the_live_line_has_steps_speed_and_time_left() -> None:
    text = shown(lambda display: display.on_step(20, TRAIN), terminal=True)
    assert "\x1b[" in text
    assert "20/40" in text
    assert "loss 1.2500 · 210 pairs/s" in text
    assert "left" in text


def test_on_a_terminal_an_evaluation_is_announced_and_leaves_a_line() -> None:
    text = shown(a_while, terminal=True)
    assert "measuring held-out pairs" in text
    assert "held-out recall@1" in text


def test_trouble_is_told_in_words_with_what_usually_helps() -> None:
    record = evaluation()
    record["health"] = {
        "verdict": "degrading",
        "reason": "text embeddings use fewer and fewer directions (since step 20)",
        "advice": ["raise optim.batch_size above 8", "lower optim.lr below 0.001"],
    }
    first, second, third, _ = shown(
        lambda display: display.on_evaluation(30, record), terminal=False
    ).split("\n")
    assert first.endswith("of 64  degrading")
    assert second.strip() == "text embeddings use fewer and fewer directions (since step 20)"
    assert third.strip() == (
        "what usually helps: raise optim.batch_size above 8, or lower optim.lr below 0.001"
    )


@pytest.mark.parametrize("verdict", ["collapsed", "degrading", "healthy"])
def test_a_verdict_of_trouble_is_bold_and_red_on_a_terminal(verdict: str) -> None:
    record = evaluation()
    record["health"] = {"verdict": verdict, "reason": "why", "advice": ["a", "b"]}
    text = shown(lambda display: display.on_evaluation(30, record), terminal=True)
    assert (f"\x1b[1;31m{verdict}" in text) is (verdict != "healthy")


def test_a_rollback_is_told_with_both_steps() -> None:
    text = shown(lambda display: display.on_rollback(30, 10, 1), terminal=False)
    assert "rolled back from step 30 to the healthy checkpoint of step 10; rollback 1" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reading_that_is_not_finite_is_a_dash(terminal: bool) -> None:
    record = evaluation(effective_rank=None)
    text = shown(lambda display: display.on_evaluation(30, record), terminal=terminal)
    assert "rank \N{EN DASH}/\N{EN DASH} of 64" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (67.0, "1 min 07 s"), (59.6, "1 min 00 s"), (7500.0, "2 h 05 min")],
)
def test_durations_are_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
