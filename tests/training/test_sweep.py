"""A sweep does what is not done, reports what fails, and stops cleanly. Runs are stand-ins."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tijepa.cli.tables import print_sweep
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig
from tijepa.errors import ConfigError
from tijepa.training.grid import Cell, cells_of, parse_axis
from tijepa.training.sweep import run_sweep, state_of, train_command

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
