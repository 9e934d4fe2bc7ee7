from __future__ import annotations

from pathlib import Path

import pytest

import tijepa.config
import tijepa.training
from tijepa.cli import main
from tijepa.config import RunConfig


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Run folders that were trained, each empty or absent at that time."""
    monkeypatch.chdir(tmp_path)
    folders: list[Path] = []

    def train(config: RunConfig, run_dir: Path, **told: object) -> Path:
        assert not run_dir.exists() or not any(run_dir.iterdir())
        folders.append(run_dir)
        return run_dir

    def load_config(preset: str) -> RunConfig:
        assert preset == "scenes"
        return RunConfig()

    monkeypatch.setattr(tijepa.training, "train", train)
    monkeypatch.setattr(tijepa.config, "load_config", load_config)
    return folders


def _run(folder: str, *files: str) -> Path:
    path = Path(folder)
    path.mkdir(parents=True)
    for file in files:
        (path / file).touch()
    return path


def test_the_demo_trains_the_preset_scenes_into_runs_demo(trained: list[Path]) -> None:
    assert main(["demo"]) == 0
    assert trained == [Path("runs/demo")]


def test_an_earlier_run_is_replaced(trained: list[Path]) -> None:
    _run("old", "config.yaml", "environment.json", "metrics.jsonl")
    assert main(["demo", "--out", "old"]) == 0
    assert trained == [Path("old")]


def test_an_empty_folder_is_used(trained: list[Path]) -> None:
    _run("new")
    assert main(["demo", "--out", "new"]) == 0
    assert trained == [Path("new")]


@pytest.mark.parametrize("files", [["thesis.tex"], ["config.yaml", "main.py"]])
def test_a_folder_that_is_no_run_is_left_alone(
    files: list[str], trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _run("mine", *files)
    assert main(["demo", "--out", "mine"]) == 2
    assert "--out mine holds files but no run" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    assert trained == []


def test_a_file_or_a_link_is_refused(
    trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    Path("link").symlink_to(_run("real", "config.yaml", "environment.json"))
    for out in ("file", "link"):
        assert main(["demo", "--out", out]) == 2
        assert f"--out {out} is not a folder" in capsys.readouterr().err
    assert len(list(Path("real").iterdir())) == 2


def test_the_working_folder_is_never_deleted(
    trained: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = _run("old/inside")
    for file in ("config.yaml", "environment.json"):
        Path("old", file).touch()
    monkeypatch.chdir(inside)
    assert main(["demo", "--out", ".."]) == 2
    assert "holds the working folder" in capsys.readouterr().err
    assert trained == []
