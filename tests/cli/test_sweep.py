"""`tijepa sweep` from command line to sweep.json, with real runs of six steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.complaints import below_reading

from tijepa.cli import main


def test_a_sweep_trains_resumes_nothing_and_is_compared(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "sweep")
    tiny_settings = [*tiny_settings, "log.tensorboard=false", "optim.steps=3"]
    grid = ["--grid", "objective.name=tijepa,vicreg"]
    assert main(["sweep", *tiny_settings, *grid, "--out", out, "--jobs", "2"]) == 0
    runs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["runs"]
    assert [(run["name"], run["status"]) for run in runs] == [
        ("name=tijepa", "finished"),
        ("name=vicreg", "finished"),
    ]
    assert main(["sweep", *tiny_settings, *grid, "--out", out]) == 0
    assert "2 runs, 2 of them finished" in capsys.readouterr().out
    folders = [f"{out}/{run['name']}" for run in runs]
    page = tmp_path / "compare.html"
    assert main(["compare", *folders, "--out", str(page), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [run["objective"] for run in compared["runs"]] == ["tijepa", "vicreg"]
    assert compared["where"] == "final models, test split"
    assert "http" not in page.read_text().replace("http-equiv", "")


def test_a_mistake_in_the_grid_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--grid", "optim.lr=-1", "--out", str(tmp_path / "x")]) == 2
    assert (
        below_reading(capsys.readouterr().err)
        == "error: lr=-1: optim.lr is -1: must be greater than 0\n"
    )
    assert not (tmp_path / "x").exists()
