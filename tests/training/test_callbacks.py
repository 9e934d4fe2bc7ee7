from __future__ import annotations

import builtins
import errno
import json
import math
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tijepa.errors import CheckpointError, MissingExtraError
from tijepa.training.callbacks import (
    Callback,
    JsonLines,
    MLflow,
    ProgressLine,
    TensorBoard,
    WeightsAndBiases,
)

TRAIN = {"kind": "train", "step": 1, "loss": 0.5, "energy/image_only/tokens": 0.25}
EVAL = {
    "kind": "eval",
    "step": 2,
    "split": "validation",
    "retrieval": {"image_to_text": {"recall_at_1": 0.125}, "num_images": 8},
    "collapse": {"gap": 0.75, "verdict": "healthy"},
}


class Told:
    """Callbacks that are told what a run would tell them."""

    def __init__(self, *callbacks: Callback, after_step: int = 0) -> None:
        self.callbacks = callbacks
        for callback in callbacks:
            callback.on_start(after_step, 9)

    def write(self, record: dict[str, Any]) -> None:
        for callback in self.callbacks:
            if record["kind"] == "train":
                callback.on_step(record["step"], record)
            else:
                callback.on_evaluation(record["step"], record)

    def rewind(self, step: int) -> None:
        for callback in self.callbacks:
            callback.on_rollback(9, step, 1)

    def close(self) -> None:
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.on_end)


def plain(run: Path, **options: Any) -> Told:
    return Told(JsonLines(run), **options)


def with_curves(run: Path, **options: Any) -> Told:
    return Told(JsonLines(run), TensorBoard(run), **options)


def lines(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_record_is_on_disk_as_one_line_at_once(tmp_path: Path) -> None:
    metrics = plain(tmp_path)
    metrics.write(TRAIN)
    assert lines(tmp_path) == [TRAIN]
    metrics.write(EVAL)
    metrics.close()
    assert lines(tmp_path) == [TRAIN, EVAL]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    metrics = plain(tmp_path)
    metrics.write({"kind": "eval", "step": 1, "a": math.nan, "b": {"c": [-math.inf, 1.0]}})
    metrics.close()
    assert lines(tmp_path) == [{"kind": "eval", "step": 1, "a": None, "b": {"c": [None, 1.0]}}]


def test_after_a_resume_later_records_and_torn_lines_are_gone(tmp_path: Path) -> None:
    steps = [{"kind": "train", "step": step} for step in (1, 2, 3, 4)]
    whole = [json.dumps(step) for step in steps]
    odd = ["[1]", "null", '{"kind": "x"}', '{"step": null}', '{"step": "1"}']
    text = "\n".join([*whole[:2], *odd, *whole[2:], '{"kind": "tr'])
    (tmp_path / "metrics.jsonl").write_text(text)
    metrics = plain(tmp_path, after_step=2)
    metrics.write({"kind": "train", "step": 3, "again": True})
    metrics.close()
    assert lines(tmp_path) == [*steps[:2], {"kind": "train", "step": 3, "again": True}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_resumed_run_without_a_file_begins_one(tmp_path: Path) -> None:
    metrics = plain(tmp_path, after_step=2)
    metrics.write(TRAIN)
    metrics.close()
    assert lines(tmp_path) == [TRAIN]


def test_tensorboard_holds_every_number_under_its_name(tmp_path: Path) -> None:
    metrics = with_curves(tmp_path)
    metrics.write(TRAIN)
    metrics.write(EVAL)
    metrics.close()
    assert scalars(tmp_path) == {
        "loss": [(1, 0.5)],
        "energy/image_only/tokens": [(1, 0.25)],
        "eval/retrieval/image_to_text/recall_at_1": [(2, 0.125)],
        "eval/retrieval/num_images": [(2, 8.0)],
        "eval/collapse/gap": [(2, 0.75)],
    }


def test_tensorboard_drops_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    metrics = with_curves(tmp_path)
    for step in (1, 2, 3):
        metrics.write({"kind": "train", "step": step, "loss": float(step)})
    metrics.close()
    metrics = with_curves(tmp_path, after_step=1)
    metrics.write({"kind": "train", "step": 2, "loss": 20.0})
    metrics.close()
    assert scalars(tmp_path) == {"loss": [(1, 1.0), (2, 20.0)]}


def test_going_back_drops_later_records_and_goes_on(tmp_path: Path) -> None:
    metrics = with_curves(tmp_path)
    for step in (1, 2, 3):
        metrics.write({"kind": "train", "step": step, "loss": float(step)})
    metrics.rewind(1)
    metrics.write({"kind": "train", "step": 2, "loss": 20.0})
    metrics.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 1.0), (2, 20.0)]
    assert scalars(tmp_path) == {"loss": [(1, 1.0), (2, 20.0)]}


def test_without_tensorboard_there_is_no_event_file(tmp_path: Path) -> None:
    metrics = plain(tmp_path)
    metrics.write(TRAIN)
    metrics.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_weights_and_biases_gets_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    run = SimpleNamespace(
        log=lambda scalars, step: logged.append((step, scalars)),
        finish=lambda: logged.append("finished"),
    )
    started: dict[str, Any] = {}
    stand_in = ModuleType("wandb")
    monkeypatch.setattr(
        stand_in, "init", lambda **options: started.update(options) or run, raising=False
    )
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    metrics = Told(JsonLines(tmp_path), WeightsAndBiases(tmp_path / ".."))
    metrics.write(EVAL)
    metrics.rewind(1)  # cannot be unsaid there, and is no error
    metrics.close()
    assert started["project"] == "tijepa"
    assert started["name"] == tmp_path.parent.name
    assert logged[0][0] == 2
    assert logged[0][1]["eval/collapse/gap"] == 0.75
    assert logged[1] == "finished"


def test_weights_and_biases_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"^wandb is not installed: pip install 'tijepa\["):
        WeightsAndBiases(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mlflow_gets_the_same_numbers_but_those_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    stand_in = ModuleType("mlflow")
    for name in ("set_experiment", "start_run", "log_metrics", "end_run"):

        def call(*given: Any, _name: str = name, **named: Any) -> None:
            calls.append((_name, (*given, *named.values())))

        monkeypatch.setattr(stand_in, name, call, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    told = Told(MLflow(tmp_path))
    told.write({**TRAIN, "loss": math.inf})
    told.write(EVAL)
    told.rewind(1)  # cannot be unsaid there, and is no error
    told.close()
    assert calls == [
        ("set_experiment", ("tijepa",)),
        ("start_run", (tmp_path.name,)),
        ("log_metrics", ({"energy/image_only/tokens": 0.25}, 1)),
        (
            "log_metrics",
            (
                {
                    "eval/retrieval/image_to_text/recall_at_1": 0.125,
                    "eval/retrieval/num_images": 8.0,
                    "eval/collapse/gap": 0.75,
                },
                2,
            ),
        ),
        ("end_run", ()),
    ]


def test_mlflow_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"^mlflow is not installed: pip install 'tijepa\["):
        MLflow(tmp_path)


def test_a_progress_line_shows_the_latest_record_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = Told(ProgressLine())
    told.callbacks[0].on_step(1, None)
    told.write(TRAIN)
    told.close()
    assert capsys.readouterr() == ("", "\rstep 1/9  loss 0.5000\n")


def test_a_callback_that_overrides_nothing_may_be_told_everything(tmp_path: Path) -> None:
    told = Told(Callback())
    told.write(TRAIN)
    told.write(EVAL)
    told.rewind(1)
    told.callbacks[0].on_evaluation_start(2)
    told.callbacks[0].on_checkpoint(2, tmp_path)
    told.close()


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    """/dev/full refuses every byte as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is not there: it stands in for a full disk")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    metrics = with_curves(tmp_path)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: No space left on device; free"):
        metrics.write(TRAIN)
    with pytest.raises(CheckpointError, match="No space left on device"):
        metrics.close()  # the line is still in the buffer; the event file is closed too


def test_an_event_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = with_curves(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(metrics.callbacks[1], "log", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        metrics.write(TRAIN)
    metrics.close()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: No such file or directory"):
        plain(tmp_path / "missing")


def test_cutting_keeps_the_old_file_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(TRAIN) + "\n")
    real = builtins.open

    def full(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith(".tmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        plain(tmp_path, after_step=0)
    monkeypatch.undo()
    assert lines(tmp_path) == [TRAIN]
