"""Every combination once, under a readable name, and mistakes before anything runs.

A sweep does what is not done, reports what fails, and stops cleanly. Runs are stand-ins.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tijepa.cli.tables import print_sweep
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig
from tijepa.config.yaml_io import read_yaml
from tijepa.errors import ConfigError
from tijepa.io.progress import Reporter
from tijepa.training.sweep import (
    Cell,
    cells_of,
    parse_axis,
    run_grid,
    run_sweep,
    state_of,
    train_command,
)

# writes what a run leaves: CONFIG, one healthy evaluation whose recall is RECALL, and a report
RUN = """
import json, pathlib, sys, time
folder, config, recall, how = pathlib.Path(sys.argv[1]), *sys.argv[2:]
recall = float(recall)
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").write_text(config)
with open(folder.parent / "done.txt", "a") as file:
    file.write(f"{folder.name} {how}\\n")
if recall == 0:
    sys.exit("error: something broke")
if recall == 9:
    (folder / "checkpoints" / "step-00000003").mkdir(parents=True)
    (folder.parent / "ready").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
direction = {"recall_at_1": recall, "recall_at_5": 1.0, "recall_at_10": 1.0}
found = {"retrieval": {"image_to_text": direction, "text_to_image": direction},
         "collapse": {"verdict": "healthy"}}
line = {"kind": "eval", "step": 3, "split": "validation", **found}
(folder / "metrics.jsonl").write_text(json.dumps(line) + "\\n")
(folder / "results.json").write_text(json.dumps({"split": "test", **found}))
(folder / "report.html").write_text("done")
"""


def cells(*grid: str) -> list[Cell]:
    return cells_of([parse_axis(text) for text in grid], overrides=["optim.steps=6"])


def command_of(recalls: dict[str, float]) -> Callable[[Cell, Path, bool], Sequence[str]]:
    def command(cell: Cell, folder: Path, resume: bool) -> list[str]:
        how = "resumed" if resume else "new"
        recall = str(recalls.get(cell.name, 0.5))
        return [sys.executable, "-c", RUN, str(folder), cell.config.to_yaml(), recall, how]

    return command


def sweep(
    out: Path, made: list[Cell], recalls: dict[str, float] | None = None, jobs: int = 1
) -> Any:
    console = Console(file=io.StringIO(), width=120)
    outcomes = run_sweep(made, out, command_of(recalls or {}), ConsoleReporter(console), jobs=jobs)
    return outcomes, console.file.getvalue()  # type: ignore[attr-defined]


def done(out: Path) -> list[str]:
    """Runs that were started, in order; emptied."""
    lines = (out / "done.txt").read_text().splitlines() if (out / "done.txt").exists() else []
    (out / "done.txt").unlink(missing_ok=True)
    return lines


def test_every_run_is_done_once_and_a_larger_grid_adds_runs(tmp_path: Path) -> None:
    sweep(tmp_path, cells("seed=0,1"))
    assert done(tmp_path) == ["seed=0 new", "seed=1 new"]
    outcomes, said = sweep(tmp_path, cells("seed=0,1,2"))
    assert done(tmp_path) == ["seed=2 new"]
    assert "3 runs, 2 of them finished" in said
    assert [one.validation for one in outcomes] == [0.5] * 3


def test_a_failing_run_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    outcomes, said = sweep(tmp_path, cells("seed=0,1,2"), {"seed=1": 0.0})
    assert [one.status for one in outcomes] == ["finished", "failed", "finished"]
    assert "failed    seed=1: error: something broke; see" in said
    record = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in record] == ["finished", "failed", "finished"]
    assert record[1]["problem"] == "error: something broke"
    assert record[0]["values"] == {"seed": 0}
    assert (record[0]["best_step"], record[0]["validation_recall_at_1"]) == (3, 0.5)
    assert record[1]["validation_recall_at_1"] is None
    done(tmp_path)
    again, _ = sweep(tmp_path, cells("seed=0,1,2"))
    assert done(tmp_path) == ["seed=1 new"]
    assert [one.status for one in again] == ["finished"] * 3


def test_the_table_has_the_best_validation_first(tmp_path: Path) -> None:
    outcomes, _ = sweep(tmp_path, cells("seed=10,11,12"), {"seed=11": 0.75, "seed=12": 0.0}, jobs=3)
    console = Console(file=io.StringIO(), width=120)
    print_sweep(console, outcomes)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split()[0] for line in shown.splitlines() if line.split() and "1" in line[:12]]
    assert [row for row in rows if row in ("10", "11", "12")] == ["11", "10", "12"]
    assert "75.0" in shown


def test_ctrl_c_lets_the_running_one_save_and_the_sweep_goes_on_later(tmp_path: Path) -> None:
    def interrupt() -> None:
        until = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)  # until it sleeps
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path, cells("seed=0,1"), {"seed=0": 9.0})
    presser.join()
    record = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in record] == ["interrupted", "waiting"]
    done(tmp_path)
    sweep(tmp_path, cells("seed=0,1"))
    assert done(tmp_path) == ["seed=0 resumed", "seed=1 new"]


def test_what_a_run_measures_is_said_while_it_runs_and_its_steps_are_counted_once(
    tmp_path: Path,
) -> None:
    """Three steps of each of two runs, read off their metrics; a bar counts all twelve."""
    counted: list[tuple[int | None, int]] = []

    class Counting(Reporter):
        @contextmanager
        def bar(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
            yield lambda count: counted.append((total, count))

        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    run_sweep(cells("seed=0,1"), tmp_path, command_of({"seed=1": 0.25}), Counting())
    assert {total for total, _ in counted} == {12}
    assert sum(count for _, count in counted) == 6
    measured = [line for line in said if line.startswith("at work")]
    assert measured == [
        f"at work   seed={seed}: step 3 of 6, held-out R@1 {recall} / {recall} %"
        for seed, recall in ((0, "50.0"), (1, "25.0"))
    ]


def test_a_run_without_checkpoint_starts_anew(tmp_path: Path) -> None:
    [cell] = cells("seed=0")
    folder = tmp_path / cell.name
    folder.mkdir()
    (folder / "config.yaml").write_text(cell.config.to_yaml())
    (folder / "leftover").touch()
    assert state_of(folder, cell.config) == "new"
    sweep(tmp_path, [cell])
    assert not (folder / "leftover").exists()


def test_a_folder_with_other_settings_is_refused_before_anything_runs(tmp_path: Path) -> None:
    first, second = cells("seed=0,1")
    (tmp_path / second.name).mkdir()
    other = cells_of([], overrides=["optim.steps=7", "seed=1"])[0].config
    (tmp_path / second.name / "config.yaml").write_text(other.to_yaml())
    with pytest.raises(ConfigError, match=r"optim\.steps is 7 in .*, not 6: a sweep keeps"):
        sweep(tmp_path, [first, second])
    assert done(tmp_path) == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="holds files but no run"):
        state_of(tmp_path, RunConfig())


def test_the_command_trains_with_the_threads_that_are_left(tmp_path: Path) -> None:
    command = train_command("scenes", None, threads=2)
    [preset] = cells_of([], preset="scenes", overrides=["compute.threads=1", "seed=4"])
    assert command(preset, tmp_path, False)[3:] == [
        "train", "--out", str(tmp_path), "--preset", "scenes", "compute.threads=1", "seed=4",
    ]  # fmt: skip
    [free] = cells_of([], overrides=["seed=4"])
    assert command(free, tmp_path, False)[-1] == "compute.threads=2"
    assert command(free, tmp_path, True)[3:] == ["train", "--out", str(tmp_path), "--resume"]


def test_what_a_run_took_from_its_backbone_makes_no_other_run(tmp_path: Path) -> None:
    """The run's own pixels, of 224 in place of the default 64; what a cell sets stands."""
    backbone = "model.image.backbone=some/vit"
    taken = ["data.image_size=224", "data.mean=[0.4,0.4,0.4]", "data.std=[0.2,0.2,0.2]"]
    stored = cells_of([], overrides=[backbone, *taken])[0].config
    (tmp_path / "config.yaml").write_text(stored.to_yaml())
    (tmp_path / "report.html").touch()
    assert state_of(tmp_path, cells_of([], overrides=[backbone])[0].config) == "finished"
    [other] = cells_of([], overrides=[backbone, "data.image_size=64"])
    with pytest.raises(ConfigError, match=r"data\.image_size is 224 in .*, not 64"):
        state_of(tmp_path, other.config)


def test_threads_alone_make_no_other_run(tmp_path: Path) -> None:
    [cell] = cells_of([], overrides=["seed=4"])
    (tmp_path / "config.yaml").write_text(
        cells_of([], overrides=["seed=4", "compute.threads=2"])[0].config.to_yaml()
    )
    (tmp_path / "report.html").touch()
    assert state_of(tmp_path, cell.config) == "finished"


def test_a_grid_tells_of_each_job_at_once_and_raises_the_error_of_one() -> None:
    told: list[tuple[int, float]] = []
    with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError):
        run_grid([2, 4, 0, 1], lambda n: 1 / n, executor, lambda *of: told.append(of), at_once=1)
    assert told == [(2, 0.5), (4, 0.25)]


def test_after_ctrl_c_no_further_job_of_a_grid_begins() -> None:
    def work(number: int) -> int:
        begun.append(number)
        os.kill(os.getpid(), signal.SIGINT)
        return number

    begun: list[int] = []
    told: list[int] = []
    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt):
        run_grid([1, 2], work, executor, lambda job, _: told.append(job), at_once=1)
    assert begun == told == [1]


def combined(*grid: str, **options: Any) -> list[Any]:
    return cells_of([parse_axis(text) for text in grid], **options)


def test_the_last_axis_runs_fastest_and_names_say_what_differs() -> None:
    made = combined("optim.lr=1e-3,5e-4", "seed=0,1")
    assert [cell.name for cell in made] == [
        "lr=0.001,seed=0",
        "lr=0.001,seed=1",
        "lr=0.0005,seed=0",
        "lr=0.0005,seed=1",
    ]
    assert [(cell.config.optim.lr, cell.config.seed) for cell in made] == [
        (1e-3, 0), (1e-3, 1), (5e-4, 0), (5e-4, 1),
    ]  # fmt: skip
    assert made[3].values == {"optim.lr": 5e-4, "seed": 1}


def test_values_may_be_lists_and_names() -> None:
    made = combined("optim.betas=[0.9, 0.95],[0.8, 0.9]", "objective.name=tijepa,clip")
    assert [cell.config.optim.betas for cell in made] == [(0.9, 0.95)] * 2 + [(0.8, 0.9)] * 2
    assert [cell.config.objective.name for cell in made] == ["tijepa", "clip"] * 2
    assert made[1].name == "betas=0.9_0.95,name=clip"


def test_labels_are_as_long_as_needed_to_tell_axes_apart() -> None:
    made = combined("model.image.depth=1", "model.text.depth=2", "optim.steps=3")
    assert made[0].name == "image.depth=1,text.depth=2,steps=3"


def test_fixed_overrides_hold_in_every_run() -> None:
    made = combined("seed=0,1", preset="scenes", overrides=["optim.steps=7"])
    assert {cell.config.optim.steps for cell in made} == {7}
    assert made[0].overrides == ("optim.steps=7", "seed=0")


def test_without_axes_there_is_one_run() -> None:
    [only] = combined(overrides=["optim.steps=7"])
    assert only.name == "run"


@pytest.mark.parametrize(
    ("grid", "overrides", "message"),
    [
        (["optim.lr"], [], "is not of the form"),
        (["optim.lr="], [], "is not of the form"),
        (["optim.lr=[1"], [], "no list of YAML values"),
        (["seed=0,1,0"], [], "holds 0 twice"),
        (["seed=0", "seed=1"], [], "seed is given twice"),
        (["seed=0,1"], ["seed=3"], "seed is given and has a grid"),
        (["optim.lr=1e-3,-1"], [], "lr=-1: optim.lr is -1: must be greater than 0"),
        (
            ["objective.name=tijepa,clip"],
            ["objective.energy=cosine"],
            "name=clip: objective.energy",
        ),
    ],
)
def test_mistakes_are_one_line(grid: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        combined(*grid, overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text("ab c-")
)


@given(values=st.lists(VALUES, min_size=1, max_size=4, unique_by=repr))
def test_written_values_read_back(values: list[Any]) -> None:
    axis = parse_axis(f"key={json.dumps(values)[1:-1]}")
    assert [read_yaml(written) for written in axis.values] == values
