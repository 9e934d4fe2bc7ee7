"""Runs side by side: figures, differences, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tijepa.cli.tables import print_comparison
from tijepa.config import load_config
from tijepa.errors import CheckpointError, DataError
from tijepa.runs.compare import best_validation, compare_runs
from tijepa.runs.record import read_run
from tijepa.runs.report.comparison import write_comparison


def found(recall: float, verdict: str = "healthy", images: int = 50) -> dict[str, Any]:
    direction = {"recall_at_1": recall, "recall_at_5": 0.75, "recall_at_10": 1.0}
    return {
        "retrieval": {
            "image_to_text": direction,
            "text_to_image": {**direction, "recall_at_1": recall / 2},
            "num_images": images,
            "num_texts": images,
        },
        "collapse": {"verdict": verdict, "reason": "because", "image": {"effective_rank": 3.0}},
        "form": "cosine",
    }


def write_run(
    folder: Path, *overrides: str, results: dict[str, Any] | None, **environment: Any
) -> Path:
    """Batch 8 at 10, 20 and 90 pairs a second; evaluations at steps 3 and 6."""
    folder.mkdir(parents=True)
    config = load_config(overrides=["optim.batch_size=8", "data.source=photos", *overrides])
    (folder / "config.yaml").write_text(config.to_yaml())
    recorded = {"items": {"train": 100}, "parameters": {"image encoder": 7, "predictors": 4}}
    (folder / "environment.json").write_text(json.dumps({**recorded, **environment}))
    lines = [
        {"kind": "train", "step": k, "loss": 1.0, "pairs_per_second": speed}
        for k, speed in ((2, 10.0), (4, 20.0), (6, 90.0))
    ]
    lines += [{"kind": "eval", "step": k, "split": "validation", **found(k / 10)} for k in (3, 6)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if results is not None:
        (folder / "results.json").write_text(json.dumps({"split": "test", **results}))
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """A run of tijepa and one of CLIP that learned from the same data."""
    return [
        write_run(tmp_path / "ours", results=found(0.5)),
        write_run(
            tmp_path / "clip", "objective.name=clip", "seed=3", results=found(0.25, "collapsed")
        ),
    ]


def test_figures_are_those_of_the_final_models(two: list[Path]) -> None:
    """Median speed 20 pairs a second at batch 8: 0.4 s a step; 7 + 4 parameters."""
    comparison = compare_runs(two)
    assert comparison.where == "final models, test split"
    ours, clip = comparison.runs
    assert (ours.name, ours.objective, clip.objective) == ("ours", "tijepa", "clip")
    assert (ours.parameters, ours.pairs_per_second, ours.seconds_per_step) == (11, 20, 0.4)
    assert clip.retrieval.image_to_text.recall_at_1 == 0.25
    assert (ours.verdict, clip.verdict) == ("healthy", "collapsed")


def test_settings_without_effect_in_another_objective_are_no_difference(two: list[Path]) -> None:
    assert compare_runs(two).differing == {"seed": [0, 3]}


def test_within_one_objective_they_are(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", results=found(0.5)),
        write_run(tmp_path / "b", "objective.regularize_text.name=none", results=found(0.5)),
    ]
    differing = compare_runs(runs).differing
    assert differing["objective.regularize_text.name"] == ["sigreg", "none"]
    assert differing["objective.regularize_text.weight"] == [0.05, None]


def test_where_one_is_unfinished_all_are_shown_by_validation(
    two: list[Path], tmp_path: Path
) -> None:
    comparison = compare_runs([*two, write_run(tmp_path / "open", results=None)])
    assert comparison.where == "last evaluation while training, validation split"
    assert comparison.notes == ("not finished: open",)
    assert comparison.runs[0].retrieval.image_to_text.recall_at_1 == 0.6


@pytest.mark.parametrize(
    ("overrides", "environment", "results", "message"),
    [
        (["data.source=other"], {}, found(0.5), "trained on different data"),
        ([], {"items": {"train": 99}}, found(0.5), "trained on different data"),
        ([], {"store": {"uri": "x", "version": 2}}, found(0.5), "trained on different data"),
        ([], {}, {**found(0.5), "split": "validation"}, "measured on different pairs"),
        ([], {}, found(0.5, images=40), "measured on different pairs"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    two: list[Path],
    tmp_path: Path,
    overrides: list[str],
    environment: dict[str, Any],
    results: dict[str, Any],
    message: str,
) -> None:
    other = write_run(tmp_path / "other", *overrides, results=results, **environment)
    with pytest.raises(DataError, match=f"ours and other were {message}") as caught:
        compare_runs([*two, other])
    assert "\n" not in str(caught.value)


def test_scenes_of_several_seeds_are_noted(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"s{k}", "data.source=scenes", f"seed={k}", results=found(0.5))
        for k in range(2)
    ]
    assert "the scenes drawn" in compare_runs(runs).notes[0]
    assert compare_runs([runs[0], runs[0]]).notes == ()


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / k / "run", results=found(0.5)) for k in "ab"]
    assert [run.name for run in compare_runs(runs).runs] == [str(run) for run in runs]


def test_one_run_and_no_run_are_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 2"):
        compare_runs(two[:1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no run folder to compare"):
        compare_runs([*two, tmp_path / "empty"])


def test_the_best_validation_is_a_healthy_one(tmp_path: Path) -> None:
    """Step 6: (0.6 + 0.3) / 2 = 0.45; step 9 has more and is collapsed."""
    run = write_run(tmp_path / "run", results=None)
    assert best_validation(read_run(run)) == (6, pytest.approx(0.45))
    line = {"kind": "eval", "step": 9, "split": "validation", **found(0.9, "collapsed")}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert best_validation(read_run(run)) == (6, pytest.approx(0.45))


def test_json_holds_no_number_that_json_lacks(tmp_path: Path) -> None:
    bare = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(load_config().to_yaml())
        bare.append(folder)
    values = compare_runs(bare).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False))["runs"][0]["pairs_per_second"] is None


def test_the_table_shows_every_run_and_every_difference(two: list[Path]) -> None:
    console = Console(record=True, width=100, quiet=False)
    with console.capture() as capture:
        print_comparison(console, compare_runs(two))
    shown = capture.get()
    for text in (
        "ours",
        "clip",
        "50.0",
        "25.0",
        "collapsed",
        "0.4",
        "Settings that differ",
        "seed",
    ):
        assert text in shown


def test_the_page_is_one_file_with_a_curve_for_each_run(two: list[Path], tmp_path: Path) -> None:
    (two[1]).rename(tmp_path / "<b>clip")
    page = tmp_path / "page.html"
    write_comparison(compare_runs([two[0], tmp_path / "<b>clip"]), page)
    html = page.read_text()
    assert "<b>clip" not in html
    assert "&lt;b&gt;clip" in html
    assert "<script" not in html
    # both have the same curves, so the second is dashed
    assert html.count('class="line s2 dashed"') == html.count('class="line s1"') >= 4
    assert "recall at 1, held out" in html
    assert re.findall(r'best">([^<]*)<', html)[0] == "50.0\u00a0%"
