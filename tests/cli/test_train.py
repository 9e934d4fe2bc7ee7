from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.complaints import below_reading

import tijepa.training
from tijepa.cli import main
from tijepa.config import RunConfig, load_config


@dataclass
class Calls:
    """What the command line asked of the trainer."""

    trained: list[tuple[RunConfig, Path, bool]] = field(default_factory=list)

    def train(
        self,
        config: RunConfig,
        run_dir: Path,
        *,
        resume: bool = False,
        reporter: object = None,
        callbacks: object = (),
    ) -> Path:
        self.trained.append((config, run_dir, resume))
        return run_dir

    def plan(self, config: RunConfig) -> SimpleNamespace:
        return SimpleNamespace(to_text=lambda: f"plan with lr {config.optim.lr}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Stands in for the trainer; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    calls = Calls()
    monkeypatch.setattr(tijepa.training, "train", calls.train)
    foresight = SimpleNamespace(dry_run=calls.plan)
    monkeypatch.setitem(sys.modules, "tijepa.training.dry_run", foresight)
    return calls


@pytest.fixture
def stored(calls: Calls) -> RunConfig:
    """The configuration of an earlier run in the folder `old`."""
    config = load_config(overrides=["optim.lr=0.5", "optim.steps=7"])
    Path("old").mkdir()
    Path("old/config.yaml").write_text(config.to_yaml())
    return config


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["train", *arguments]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


def test_overrides_options_and_file_reach_the_trainer(calls: Calls) -> None:
    Path("mine.yaml").write_text("optim: {lr: 0.25, steps: 9}\n")
    arguments = ["train", "optim.lr=3e-4", "--config", "mine.yaml", "--out", "run", "seed=4"]
    assert main([*arguments, "--data", "3e4: photos"]) == 0
    [(config, run_dir, resume)] = calls.trained
    assert (config.optim.lr, config.optim.steps, config.seed) == (3e-4, 9, 4)
    assert config.data.source == "3e4: photos"
    assert run_dir == Path("run")
    assert not resume


@pytest.mark.parametrize(("options", "name"), [([], "train"), (["--config", "my.yaml"], "my")])
def test_the_run_is_named_after_its_configuration_and_time(
    options: list[str], name: str, calls: Calls
) -> None:
    Path("my.yaml").touch()
    assert main(["train", *options]) == 0
    assert re.fullmatch(rf"runs/{name}-\d{{8}}-\d{{6}}", calls.trained[0][1].as_posix())


def test_a_folder_with_files_is_refused_with_both_remedies(
    stored: RunConfig, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    message = _error(capsys, "--out", "old")
    assert message == (
        "--out old is not empty: add --resume to continue that run, or name another --out"
    )
    assert calls.trained == []


def test_an_empty_folder_is_accepted(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["train", "--out", "empty"]) == 0
    assert len(calls.trained) == 1


def test_a_file_is_no_run_folder(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert _error(capsys, "--out", "file") == "--out file is a file; name a folder"


def test_resume_continues_with_the_stored_configuration(stored: RunConfig, calls: Calls) -> None:
    assert main(["train", "--resume", "--out", "old"]) == 0
    assert calls.trained == [(stored, Path("old"), True)]


def test_resume_accepts_settings_that_say_the_same(stored: RunConfig, calls: Calls) -> None:
    assert main(["train", "--resume", "--out", "old", "optim.lr=0.5"]) == 0
    assert calls.trained[0][0] == stored


def test_resume_refuses_a_change_and_names_the_key(
    stored: RunConfig, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    message = _error(capsys, "--resume", "--out", "old", "optim.lr=0.1")
    assert message.startswith("optim.lr is 0.5 in old/config.yaml, not 0.1: a resumed run keeps")
    assert calls.trained == []


def test_a_resumed_run_may_have_another_number_of_steps(stored: RunConfig, calls: Calls) -> None:
    assert main(["train", "--resume", "--out", "old", "optim.steps=9"]) == 0
    longer = stored.optim.model_copy(update={"steps": 9})
    assert calls.trained[0][0] == stored.model_copy(update={"optim": longer})


def test_resume_compares_a_given_file_with_the_stored_configuration(
    stored: RunConfig, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("same.yaml").write_text(stored.to_yaml())
    assert main(["train", "--resume", "--out", "old", "--config", "same.yaml"]) == 0
    assert capsys.readouterr().err == "reading   same.yaml, old\n"
    Path("other.yaml").write_text("optim: {lr: 0.5, steps: 8}\n")
    message = _error(capsys, "--resume", "--out", "old", "--config", "other.yaml")
    assert message.startswith("optim.steps is 7 in old/config.yaml, not 8")


def test_resume_needs_a_folder_with_a_run(
    calls: Calls, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _error(capsys, "--resume").startswith("--resume needs --out RUN")
    (tmp_path / "empty").mkdir()
    assert "holds no run" in _error(capsys, "--resume", "--out", "empty")
    assert "holds no run" in _error(capsys, "--resume", "--out", "missing")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    calls: Calls, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "optim.lr=0.125", "--dry-run"]) == 0
    assert capsys.readouterr().out == "plan with lr 0.125\n"
    assert calls.trained == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_preset_for_photos_does_not_train_on_drawn_scenes_unasked(
    verb: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [verb, "--preset", "photos-tiny", "--out", "runs/x"]
    arguments += ["--grid", "seed=0,1"] if verb == "sweep" else []
    assert main(arguments) == 2
    assert "preset photos-tiny is for data of your own: name them with --data" in (
        capsys.readouterr().err
    )
    assert not calls.trained
    if verb == "train":
        assert main([*arguments, "--data", "scenes"]) == 0
        assert calls.trained[0][0].data.source == "scenes"
