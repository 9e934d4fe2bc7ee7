"""The guard acting on runs whose image encoder is made constant from a known step on."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.complaints import below_reading

from tijepa.cli import main
from tijepa.cli.display import Display
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig, load_config
from tijepa.errors import CollapseError, ConfigError
from tijepa.evaluate.collapse_metrics import CollapseMetrics, collapse_metrics
from tijepa.inference.results import Rollback
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import read_json
from tijepa.training import evaluation, loop, train
from tijepa.training.build import build_schedule
from tijepa.training.checkpoint import RunState
from tijepa.training.guard import Guard, build_guard
from tijepa.training.loop import Trainer
from tijepa.training.optimizer import ScheduleValues

Configure = Callable[..., RunConfig]
CLOCK = ("pairs_per_second", "data_wait", "seconds")
LR = 1e-3
SETTINGS = [
    "optim.steps=12",
    f"optim.lr={LR}",
    "optim.warmup=0",
    "optim.final_lr=1",
    "log.eval_every=2",
    "log.save_every=100",
    "log.keep_last=1",
]
STOP = [*SETTINGS, "guard.action=stop"]
ROLLBACK = [*SETTINGS, "guard.action=rollback"]


def quiet() -> Reporter:
    return SILENT


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]
    return [line for line in kept if line["kind"] == kind]


def verdicts(run: Path) -> dict[int, str]:
    return {line["step"]: line["health"]["verdict"] for line in records(run, "eval")}


def enliven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve pairs and twelve steps teach nothing: whatever is not constant reads as healthy."""

    def told(*arguments: Any, **options: Any) -> CollapseMetrics:
        found = collapse_metrics(*arguments, **options)
        if found["image"]["spread"] == 0:
            return found
        good = {"rank": 6.0, "spread": 1.0, "std": 1.0, "gap": 1.0, "certainty": 9.0, "drift": 0.0}
        return {
            subject: {name: good.get(name, value) for name, value in values.items()}
            for subject, values in found.items()
        }

    monkeypatch.setattr(evaluation, "collapse_metrics", told)
    monkeypatch.setattr("tijepa.evaluate.detect.MIN_PAIRS", 2)


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    enliven(monkeypatch)


def kill(monkeypatch: pytest.MonkeyPatch, after: int, above: float = 0.0) -> None:
    """Make the image head constant at every update after `after` with a rate above `above`."""
    update = loop._update

    def killing(trainer: Trainer, batch: Any, rates: ScheduleValues, step: int) -> Any:
        reading = update(trainer, batch, rates, step)
        if step >= after and rates.lr > above:
            with torch.no_grad():
                for parameter in trainer.model.context.image_head.parameters():
                    parameter.zero_()
        return reading

    monkeypatch.setattr(loop, "_update", killing)


@pytest.fixture
def dies(lively: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image encoder is constant after step 4, whatever the learning rate."""
    kill(monkeypatch, 4)


@pytest.fixture
def dies_of_the_rate(lively: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image encoder is constant after step 4 unless the learning rate was lowered."""
    kill(monkeypatch, 4, above=0.9 * LR)


def test_a_warning_run_goes_on_and_keeps_the_best_healthy_checkpoint(
    dies: None, tiny_config: Configure, tmp_path: Path
) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    run = train(
        tiny_config(*SETTINGS),
        tmp_path / "run",
        reporter=ConsoleReporter(console),
        callbacks=[Display(console)],
    )
    assert list(verdicts(run).values()) == ["healthy"] * 2 + ["collapsed"] * 4
    results = read_json(run / "results.json")
    assert results["checkpoint"] in ("step-00000002", "step-00000004")
    assert results["health"]["verdict"] == "collapsed"
    assert results["health"]["findings"][0]["subject"] == "image"
    assert results["health"]["findings"][0]["since"] == 6
    told = output.getvalue()
    assert "image embeddings are nearly the same for every item (since step 6)" in told
    helps = "spread image embeddings more: objective.regularize_image.weight above 0.05"
    assert f"what usually helps: {helps}" in told
    page = (run / "report.html").read_text()
    assert "✕ Collapsed" in page
    assert helps in page
    assert "was collapsed at its last evaluation, step 12" in page


def test_stop_ends_the_run_with_a_report_of_the_best_healthy_checkpoint(
    dies: None, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Collapsed at steps 6 and 8, which is twice in a row."""
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), *tiny_settings, *STOP]) == 3
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert err.startswith("error: stopped by guard.action=stop at step 8: collapsed (image since")
    assert f"last healthy checkpoint: {run / 'checkpoints/step-00000004'}" in err
    assert list(verdicts(run)) == [2, 4, 6, 8]
    assert (run / "checkpoints/step-00000004/model.safetensors").exists()
    assert read_json(run / "results.json")["checkpoint"] in ("step-00000002", "step-00000004")
    assert (run / "report.html").exists()
    results = (run / "results.json").read_bytes()
    assert main(["train", "--out", str(run), "--resume"]) == 3
    assert list(verdicts(run)) == [2, 4, 6, 8]
    assert (run / "results.json").read_bytes() == results


def test_a_run_that_was_never_healthy_is_stopped_too(
    lively: None, monkeypatch: pytest.MonkeyPatch, tiny_config: Configure, tmp_path: Path
) -> None:
    kill(monkeypatch, 0)
    for name, settings in (("stop", STOP), ("rollback", ROLLBACK)):
        with pytest.raises(CollapseError, match=r"at step 4: .*no checkpoint was healthy"):
            train(tiny_config(*settings), tmp_path / name, reporter=quiet())
        assert (tmp_path / name / "report.html").exists()


def test_rollback_goes_on_from_the_healthy_checkpoint_with_a_lower_rate(
    dies_of_the_rate: None, tiny_config: Configure, tmp_path: Path
) -> None:
    """Collapsed at 6 and 8, back to 4, and from there half the rate to the end."""
    output = io.StringIO()
    run = train(
        tiny_config(*ROLLBACK),
        tmp_path / "run",
        callbacks=[Display(Console(file=output, width=200))],
    )
    steps = records(run, "train")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["lr"] for line in steps] == [LR] * 4 + [LR / 2] * 8
    assert set(verdicts(run).values()) == {"healthy"}
    health = read_json(run / "results.json")["health"]
    assert [(one["from_step"], one["to_step"]) for one in health["rollbacks"]] == [(8, 4)]
    assert "image embeddings are nearly the same" in health["rollbacks"][0]["reason"]
    assert "rolled back from step 8 to the healthy checkpoint of step 4" in output.getvalue()
    assert "Rollbacks; the readings of abandoned steps" in (run / "report.html").read_text()


def test_the_collapse_after_the_last_rollback_stops_the_run(
    dies: None, tiny_config: Configure, tmp_path: Path
) -> None:
    config = tiny_config(*ROLLBACK, "guard.max_rollbacks=2", "guard.lr_factor=0.1")
    with pytest.raises(CollapseError, match=r"at step 8 after 2 rollbacks: .*step-00000004"):
        train(config, tmp_path / "run", reporter=quiet())
    rates = [line["lr"] for line in records(tmp_path / "run", "train")]
    assert rates == pytest.approx([LR] * 4 + [LR / 100] * 4)


@pytest.fixture(scope="module")
def whole(tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that rolled back once and was never interrupted. Shared: read it."""
    with pytest.MonkeyPatch.context() as patch:
        enliven(patch)
        kill(patch, 4, above=0.9 * LR)
        config = tiny_config(*ROLLBACK, "objective.pooled_targets=ema")
        return train(config, tmp_path_factory.mktemp("guard") / "whole", reporter=quiet())


@pytest.mark.parametrize(
    ("step", "number"),
    [(5, signal.SIGTERM), (7, signal.SIGINT), (9, signal.SIGTERM)],
    ids=["collapsing", "at the rollback", "after it"],
)
def test_a_run_interrupted_around_a_rollback_equals_an_uninterrupted_one_bit_for_bit(
    step: int,
    number: int,
    whole: Path,
    dies_of_the_rate: None,
    tiny_config: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(*ROLLBACK, "objective.pooled_targets=ema")
    parts = tmp_path / "parts"
    update = loop._update

    def interrupted(*arguments: Any) -> Any:
        if arguments[-1] == step:
            signal.raise_signal(number)
        return update(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, reporter=quiet())
    train(config, parts, resume=True, reporter=quiet())
    for kind in ("train", "eval"):
        assert records(parts, kind) == records(whole, kind)
    folders = [max((run / "checkpoints").glob("step-*")) for run in (whole, parts)]
    assert folders[0].name == folders[1].name == "step-00000012"
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes(), file.name
    assert (whole / "results.json").read_bytes() == (parts / "results.json").read_bytes()


def test_a_guard_that_should_act_needs_pairs_to_judge_by(
    tiny_config: Configure, pairs_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(pairs_folder, tmp_path / "pairs")
    lines = (tmp_path / "pairs/captions.jsonl").read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if "validation" not in line)
    (tmp_path / "pairs/captions.jsonl").write_text(kept)
    config = tiny_config(f"data.source={tmp_path / 'pairs'}", *STOP)
    with pytest.raises(ConfigError, match="no validation pairs to judge by"):
        train(config, tmp_path / "run", reporter=quiet())
    assert not (tmp_path / "run").exists()


# --- decisions --------------------------------------------------------------------------------


def guard(action: str, tiny_config: Configure) -> Guard:
    config = tiny_config(*SETTINGS, f"guard.action={action}")
    return build_guard(config, build_schedule(config), measured=True)


COLLAPSED = RunState(step=8, cursor=64, healthy_step=4, collapsed_in_a_row=2)
ONCE = Rollback(8, 4, "why")


@pytest.mark.parametrize(
    ("action", "change", "decision"),
    [
        ("warn", {"collapsed_in_a_row": 9}, "go on"),
        ("stop", {}, "stop"),
        ("stop", {"collapsed_in_a_row": 1}, "go on"),
        ("rollback", {}, "rollback"),
        ("rollback", {"collapsed_in_a_row": 1}, "go on"),
        ("rollback", {"healthy_step": None}, "stop"),
        ("rollback", {"rollbacks": (ONCE,)}, "rollback"),
        ("rollback", {"rollbacks": (ONCE, ONCE)}, "stop"),
    ],
)
def test_the_decision_follows_from_the_state(
    action: str, change: dict[str, Any], decision: str, tiny_config: Configure
) -> None:
    assert guard(action, tiny_config).decide(replace(COLLAPSED, **change)) == decision


def test_only_collapse_counts_and_only_in_a_row(tiny_config: Configure) -> None:
    """Readings: constant, constant, then a rank of 3 among 8, which is no collapse."""
    constant = {"image": {"rank": 0.0, "available": 8.0, "spread": 0.0, "std": 0.0}}
    low = {"image": {"rank": 3.0, "available": 8.0, "spread": 1.0, "std": 1.0}}
    watching = guard("stop", tiny_config)
    state = RunState(step=6, cursor=48)
    counted = []
    for readings in (constant, constant, low):
        state, health = watching.examine(state, readings)
        counted.append((state.collapsed_in_a_row, health.verdict))
    assert counted == [(1, "collapsed"), (2, "collapsed"), (0, "degrading")]


# --- canary -----------------------------------------------------------------------------------

CANARY = """
    data.image_size=32 data.eval_items=200 data.test_items=50 log.tensorboard=false
    model.image.patch_size=8 model.image.width=32 model.image.depth=2 model.image.heads=2
    model.text.width=32 model.text.depth=2 model.text.heads=2
    model.embed_dim=32 model.head.hidden=64
    optim.batch_size=32 optim.steps=200 log.eval_every=50 log.save_every=1000
    compute.device=cpu compute.precision=float32 compute.threads=1
"""
UNPROTECTED = """
    objective.pooled_targets=ema optim.ema_momentum=[0.9,0.9] model.head.norm=none
    objective.regularize_image.name=none objective.regularize_text.name=none guard.action=stop
    optim.steps=400
"""


@pytest.mark.slow
def test_a_run_without_any_protection_is_stopped_and_the_default_one_is_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMA targets at small batch without regularizer or norm collapse (SLAP, arXiv 2506.17815)."""
    monkeypatch.setattr("tijepa.training.backbones.CAPTIONS", 500)
    monkeypatch.setattr("tijepa.evaluate.measure.CALIBRATION_PAIRS", 64)
    bad, good = (
        load_config(overrides=[*CANARY.split(), *more.split()]) for more in (UNPROTECTED, "")
    )
    with pytest.raises(CollapseError):
        train(bad, tmp_path / "bad", reporter=quiet())
    assert "healthy" not in verdicts(tmp_path / "bad").values()
    found = list(verdicts(train(good, tmp_path / "good", reporter=quiet())).values())
    assert set(found) <= {"early", "healthy"}
    assert found[-2:] == ["healthy"] * 2
