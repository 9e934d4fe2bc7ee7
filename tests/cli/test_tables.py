from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tijepa.cli.tables import print_summary, summary_table
from tijepa.inference.results import RunResults


def retrieval_of(recall: float) -> dict[str, Any]:
    direction = {
        "recall_at_1": recall, "recall_at_5": 0.8, "recall_at_10": 0.9, "median_rank": 1.5,
    }  # fmt: skip
    return {
        "image_to_text": direction, "text_to_image": {**direction, "recall_at_1": recall / 2},
        "num_images": 500, "num_texts": 1500, "chance_at_1": 0.002,
    }  # fmt: skip


def results(verdict: str = "healthy") -> dict[str, Any]:
    readings = {"effective_rank": 41.23, "dimensions": 64, "mean_std": 0.98, "min_std": 0.5}
    return {
        "split": "test",
        "form": "calibrated",
        "retrieval": retrieval_of(0.742),
        "energies": {"squared_l2": retrieval_of(0.655), "calibrated": retrieval_of(0.742)},
        "novel": {"retrieval": retrieval_of(0.5)},
        "collapse": {
            "image": readings, "text": readings, "matched_energy": 0.25, "shuffled_energy": 1.0,
            "gap": 0.75, "verdict": verdict, "reason": "[bold]why[/bold]",
        },
    }  # fmt: skip


def printed(content: dict[str, Any], run_dir: Path | None, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_summary(console, RunResults.from_json(content), run_dir)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return " ".join(text.replace("\u00a0", " ").split())


def test_the_table_has_every_form_both_ways_beside_chance(tmp_path: Path) -> None:
    text = printed(results(), tmp_path)
    assert "500 images and 1,500 texts of the test split" in text
    assert "squared L2 image → text 65.5 % 80.0 % 90.0 % 1.5" in text
    assert "calibrated image → text 74.2 %" in text
    assert "text → image 37.1 %" in text
    assert "calibrated, novel image → text 50.0 %" in text
    assert "chance both 0.2 % 1.0 % 2.0 %" in text
    assert summary_table(RunResults.from_json(results())).row_count == 7


def test_a_frozen_run_says_what_training_added_over_the_closed_form(tmp_path: Path) -> None:
    """Of 74.2 and 37.1 % the closed form has 70 and 40 %: 4.2 points more, and 2.9 less back."""
    solved = retrieval_of(0.7)
    solved["text_to_image"]["recall_at_1"] = 0.4
    text = printed({**results(), "closed_form": solved}, tmp_path)
    assert "closed form image → text 70.0 %" in text
    told = "training added over the closed form, in points of R@1: +4.2 image → text, -2.9 text →"
    assert told in text
    assert "closed form" not in printed(results(), tmp_path)


def test_readings_and_verdict_follow_below(tmp_path: Path) -> None:
    text = printed(results(), tmp_path)
    assert "image effective rank 41.2 of 64, std per dimension 0.980 (smallest 0.500)" in text
    assert "matched 0.250, shuffled 1.00, gap 0.750" in text
    assert "healthy: [bold]why[/bold]" in text  # shown as it is, not taken for markup
    assert "COLLAPSED: " in printed(results("collapsed"), tmp_path)


def test_a_run_that_ended_in_trouble_says_so_beside_its_healthy_model(tmp_path: Path) -> None:
    content = results() | {"health": {"verdict": "degrading", "reason": "text [b]shrinks[/b]"}}
    text = printed(content, tmp_path)
    assert "healthy: " in text
    assert "while training, at its end degrading: text [b]shrinks[/b]" in text
    content["health"]["verdict"] = "healthy"
    assert "while training" not in printed(content, tmp_path)


@pytest.mark.parametrize(
    ("health", "told"),
    [
        ({}, "not judged: why"),
        ({"verdict": "healthy", "reason": "fused use many"}, "healthy: fused use many"),
        ({"verdict": "collapsed", "reason": "fused alike"}, "COLLAPSED: fused alike"),
    ],
)
def test_a_run_without_pooled_task_has_the_verdict_of_its_guard(
    health: dict[str, Any], told: str, tmp_path: Path
) -> None:
    content = results() | {"health": health}
    content["collapse"] = content["collapse"] | {"verdict": "unjudged", "reason": "why"}
    text = printed(content, tmp_path)
    assert told in text
    assert "while training" not in text


def test_the_path_of_the_report_is_last_and_unbroken(tmp_path: Path) -> None:
    assert printed(results(), tmp_path, width=40).endswith(f"run: {tmp_path}")
    (tmp_path / "report.html").touch()
    assert printed(results(), tmp_path, width=40).endswith(f"report: {tmp_path / 'report.html'}")
    assert "report:" not in printed(results(), None)


@pytest.mark.parametrize("content", [{}, {"retrieval": {}, "collapse": {}, "energies": {}}])
def test_missing_readings_are_dashes(content: dict[str, Any], tmp_path: Path) -> None:
    text = printed(content, tmp_path)
    assert "Retrieval: not measured" in text
    assert "Collapse: not measured" in text
    assert "reported image → text \N{EN DASH}" in text


def test_retrieval_without_forms_is_one_form(tmp_path: Path) -> None:
    assert "reported image → text 74.2 %" in printed({"retrieval": retrieval_of(0.742)}, tmp_path)


def test_names_of_energies_stand_whole_in_a_terminal_of_80_columns(tmp_path: Path) -> None:
    """Also where every recall is 100.0 %, as in small splits."""
    found = results()
    sure = {"recall_at_1": 1.0, "recall_at_5": 1.0, "recall_at_10": 1.0, "median_rank": 1.0}
    for one in found["energies"].values():
        one |= {"image_to_text": sure, "text_to_image": sure}
    del found["novel"]
    text = printed(found, tmp_path, width=80)
    assert "calibrated image → text 100.0 % 100.0 % 100.0 %" in text
    assert "squared L2 image → text" in text
