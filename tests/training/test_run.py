from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from tests.complaints import below_reading

import tijepa
from tijepa.cli import main
from tijepa.cli.display import Display
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig, resumed_config
from tijepa.data.validation.image_check import look_at_image
from tijepa.errors import CheckpointError, ConfigError, DataError, MissingExtraError, NonFiniteError
from tijepa.inference.calibration import joint_of
from tijepa.inference.results import RunResults
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import load_tensors, read_json
from tijepa.runs.evaluation import evaluate_run
from tijepa.training import loop, train
from tijepa.training import run as run_module
from tijepa.training.build import build_model

Configure = Callable[..., RunConfig]

COMMAND = [sys.executable, "-c", "import sys; from tijepa.cli import main; sys.exit(main())"]
MEASURED_TIMES = ("pairs_per_second", "data_wait", "seconds")

TOKEN_TASKS = [
    "objective.tasks.text_to_image.tokens=0.5",
    "objective.tasks.image_to_text.tokens=0.5",
    "objective.tasks.image_infill=1",
    "objective.tasks.text_infill=1",
    "objective.tasks.image_only=1",
    "objective.tasks.text_only=1",
    "objective.tasks.fusion_infill=1",
    "model.fusion={width: 8, depth: 1, heads: 2}",
    "model.token_predictor.width=8",
    "model.token_predictor.depth=1",
]
EVERYTHING = [
    *TOKEN_TASKS,
    "objective.pooled_targets=ema",
    "optim.accumulate=2",
    "data.crop_scale=[0.5,1]",
    "data.flip=true",
]


def quiet() -> Reporter:
    return SILENT


def metrics(run: Path) -> list[dict[str, Any]]:
    """The records without what a clock measured."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in MEASURED_TIMES} for r in records]


def last_checkpoint(run: Path) -> dict[str, bytes]:
    """Every file of the newest checkpoint."""
    folder = max((run / "checkpoints").glob("step-*"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    assert last_checkpoint(one).keys() == last_checkpoint(other).keys()
    for name, content in last_checkpoint(one).items():
        assert content == last_checkpoint(other)[name], name
    assert (one / "results.json").read_bytes() == (other / "results.json").read_bytes()


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Send the signal while the update after `step` updates is being computed, once."""
    update = loop._update

    def interrupted(*arguments: Any) -> Any:
        if arguments[-1] == step:
            signal.raise_signal(number)
        return update(*arguments)

    monkeypatch.setattr(loop, "_update", interrupted)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place for runs, and the working folder is elsewhere."""
    return tmp_path


# --- resume -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "number"),
    [
        ([], signal.SIGINT),
        (EVERYTHING, signal.SIGTERM),
        (["objective.name=clip"], signal.SIGINT),
        (["objective.regularize_image.name=vicreg", "data.threads=0"], signal.SIGTERM),
    ],
    ids=["pooled", "everything", "clip", "vicreg"],
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    overrides: list[str],
    number: int,
    tiny_config: Configure,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(*overrides)
    train(config, folder / "whole", reporter=quiet())
    with monkeypatch.context() as patch:
        interrupt_after(3, patch, number)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "parts", reporter=quiet())
    assert read_json(folder / "parts/checkpoints/step-00000004/state.json")["step"] == 4
    assert not (folder / "parts/model").exists()
    train(config, folder / "parts", resume=True, reporter=quiet())
    assert_same_run(folder / "whole", folder / "parts")


def test_a_finished_run_goes_on_when_it_is_given_more_steps(
    tiny_config: Configure, folder: Path
) -> None:
    run, longer = folder / "run", tiny_config("optim.steps=11")
    train(tiny_config("optim.steps=8"), run, reporter=quiet())
    train(longer, run, resume=True, reporter=quiet())
    assert (run / "checkpoints/step-00000011").is_dir()
    assert resumed_config(run) == longer
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "train"] == list(range(1, 12))
    with pytest.raises(ConfigError, match=r"optim.steps is 9, and .* has done 11"):
        train(tiny_config("optim.steps=9"), run, resume=True, reporter=quiet())


def test_a_run_that_learns_no_retrieval_keeps_its_last_checkpoint(
    tiny_config: Configure, folder: Path
) -> None:
    """The paper's objective alone: recall stays at chance, the guard watches the fused tokens."""
    config = tiny_config(
        "objective.tasks.text_to_image.pooled=0",
        "objective.tasks.image_to_text.pooled=0",
        "objective.tasks.fusion_infill=1",
        "objective.regularize_image.name=none",
        "objective.regularize_text.name=none",
        "model.fusion={width: 8, depth: 1, heads: 2}",
        "model.token_predictor={width: 8, depth: 1, heads: 2}",
    )
    run = train(config, folder / "run", reporter=quiet())
    assert not (run / "checkpoints/best.json").exists()
    assert read_json(run / "results.json")["checkpoint"] == "step-00000006"
    record = metrics(run)[-1]
    assert record["kind"] == "eval"
    assert record["collapse"]["verdict"] == "unjudged"  # no pooled embedding learns anything
    assert record["health"]["readings"].keys() == {"fused", "fused targets"}
    assert record["tasks"]["fusion_infill/tokens"].keys() == {
        "matched", "shuffled", "gap", "wrong_text", "wrong_text_gap", "target_variance",
    }  # fmt: skip
    results = RunResults.from_json(read_json(run / "results.json"))
    for found in (results, evaluate_run(run)):
        assert found.collapse is not None
        assert found.collapse.verdict == "unjudged"
    verdict, reason = results.judgement
    assert (verdict, reason) == (record["health"]["verdict"], record["health"]["reason"])
    report = (run / "report.html").read_text()
    assert f'<p class="verdict {verdict}"><b>' in report
    assert "Gap between the wrong text and the right one in the context alone" in report


def test_two_runs_of_one_seed_are_the_same_and_of_another_seed_are_not(
    tiny_config: Configure, tiny_run: Path, folder: Path
) -> None:
    train(tiny_config(), folder / "again", reporter=quiet())
    train(tiny_config("seed=1"), folder / "other", reporter=quiet())
    assert_same_run(tiny_run, folder / "again")
    assert metrics(folder / "other")[0]["loss"] != metrics(tiny_run)[0]["loss"]


def test_targets_and_moments_come_back_exactly(
    tiny_config: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files hold EMA targets that differ from the context encoders, and both moments."""
    train(tiny_config(*EVERYTHING), folder / "run", reporter=quiet())
    newest = max((folder / "run/checkpoints").glob("step-*"))
    weights = load_tensors(newest / "model.safetensors")
    targets = {name: value for name, value in weights.items() if name.startswith("target.")}
    assert targets
    assert any(
        not torch.equal(value, weights["context." + name.removeprefix("target.")])
        for name, value in targets.items()
    )
    fields = {name.split(".")[1] for name in load_tensors(newest / "optimizer.safetensors")}
    assert fields == {"exp_avg", "exp_avg_sq", "step"}


def run_until(records: int, run: Path, arguments: list[str], number: int) -> str:
    """Start a process, signal it once it has written that many records, return what it printed."""
    process = subprocess.Popen(
        [*COMMAND, "train", "--out", str(run), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    written = run / "metrics.jsonl"  # its last line may be half there: whole ones count
    while not written.exists() or written.read_text().count("\n") < records:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert below_reading(err).strip() == "interrupted"
    return out


def test_processes_that_get_signals_are_resumed_to_the_same_bytes(
    tiny_settings: list[str], tiny_config: Configure, folder: Path
) -> None:
    """Real processes: the steps at which Ctrl-C and then SIGTERM arrive are left to chance."""
    longer = [*TOKEN_TASKS, "optim.steps=40", "log.eval_every=1000", "log.save_every=1000"]
    run = folder / "run"
    out = run_until(3, run, [*tiny_settings, *longer], signal.SIGINT)
    assert f"Continue with: tijepa train --resume --out {run}" in out
    done = len(metrics(run))
    assert 3 <= done < 40
    assert [path.name for path in run.glob("checkpoints/*")] == [f"step-{done:08d}"]
    run_until(done + 3, run, ["--resume"], signal.SIGTERM)
    assert done + 3 <= len(metrics(run)) < 40
    train(tiny_config(*longer), run, resume=True, reporter=quiet())
    train(tiny_config(*longer), folder / "whole", reporter=quiet())
    newest = "checkpoints/step-00000040/"
    for name in ("model", "optimizer", "objective", "calibration"):
        path = f"{newest}{name}.safetensors"
        assert (run / path).read_bytes() == (folder / "whole" / path).read_bytes()
    assert metrics(run) == metrics(folder / "whole")


KILLED = """
import os, signal, sys
from tijepa.training import checkpoint
save_tensors, calls = checkpoint.save_tensors, []
def save(tensors, path):
    calls.append(path)
    if len(calls) == int(sys.argv[1]):
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save_tensors(tensors, path)
checkpoint.save_tensors = save
from tijepa.cli import main
main(sys.argv[2:])
"""


def test_a_process_killed_while_saving_is_resumed_from_the_checkpoint_before(
    tiny_settings: list[str], tiny_config: Configure, tiny_run: Path, folder: Path
) -> None:
    """Three files go through `save_tensors`, so the fifth call is in the second checkpoint."""
    run = folder / "run"
    arguments = ["5", "train", "--out", str(run), *tiny_settings]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert list((run / "checkpoints").glob(".step-00000006.*.tmp"))
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000003"]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 6, "lo')  # a torn line
    train(tiny_config(), run, resume=True, reporter=quiet())
    assert not list((run / "checkpoints").glob(".*"))
    assert_same_run(tiny_run, run)


def test_resuming_a_finished_run_changes_nothing(
    tiny_config: Configure, tiny_run: Path, folder: Path
) -> None:
    shutil.copytree(tiny_run, folder / "run")
    train(tiny_config(), folder / "run", resume=True, reporter=quiet())
    assert_same_run(tiny_run, folder / "run")


def test_ctrl_c_in_the_last_step_stops_before_the_final_evaluation(
    tiny_config: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(5, monkeypatch, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config(), folder / "run", reporter=quiet())
    assert (folder / "run/checkpoints/step-00000006").exists()
    assert not (folder / "run/results.json").exists()


def test_a_resumed_run_sees_its_data_as_they_were_when_it_began(
    tiny_config: Configure,
    pairs_folder: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its captions are rewritten after 4 of 6 steps, none fewer. The copy in the cache is as it
    was; when that is gone too the run is refused, and so is its evaluation without --data."""
    monkeypatch.setenv("TIJEPA_CACHE", str(folder / "cache"))
    pairs = Path(shutil.copytree(pairs_folder, folder / "pairs"))
    config = tiny_config(f"data.source={pairs}")
    train(config, folder / "whole", reporter=quiet())
    with monkeypatch.context() as patch:
        interrupt_after(3, patch, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder / "run", reporter=quiet())
    shutil.copytree(folder / "run", folder / "late")
    captions = pairs / "captions.jsonl"
    captions.write_text(captions.read_text().replace('"captions": ["', '"captions": ["other '))
    train(config, folder / "run", resume=True, reporter=ConsoleReporter(Console(width=200)))
    assert "as it was before it changed" in capsys.readouterr().out
    assert_same_run(folder / "whole", folder / "run")
    shutil.rmtree(folder / "cache")
    with pytest.raises(DataError, match=r"pairs has changed since .*late began .* restore it; or"):
        train(config, folder / "late", resume=True, reporter=quiet())
    with pytest.raises(DataError, match="pairs has changed since"):
        evaluate_run(folder / "run", device="cpu")
    evaluated = evaluate_run(folder / "run", device="cpu", data=str(pairs))
    assert evaluated.retrieval is not None
    assert evaluated.retrieval.num_images == 12


def test_resume_refuses_a_checkpoint_of_another_shape(
    tiny_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    shutil.copytree(tiny_run, run)
    text = (run / "config.yaml").read_text()
    assert "embed_dim: 8" in text
    (run / "config.yaml").write_text(text.replace("embed_dim: 8", "embed_dim: 12"))
    assert main(["train", "--resume", "--out", str(run)]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert "is of another shape" in err
    assert "use the configuration it was trained with" in err


def test_resume_refuses_a_damaged_checkpoint(
    tiny_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    shutil.copytree(tiny_run, run)
    for name in ("model", "optimizer"):
        path = run / f"checkpoints/step-00000006/{name}.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        assert main(["train", "--resume", "--out", str(run)]) == 2
        err = below_reading(capsys.readouterr().err)
        assert err.count("\n") == 1
        assert f"{name}.safetensors is damaged" in err
        path.write_bytes(whole)


def test_resume_needs_a_checkpoint(
    tiny_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "checkpoints")
    assert main(["train", "--resume", "--out", str(run)]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.startswith(f"error: {run} has no checkpoint to resume from")
    assert err.count("\n") == 1


# --- bad input --------------------------------------------------------------------------------


def broken_caption(folder: Path) -> str:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": 3}\n')
    return "a.png: caption 1 of 1 is of type int, not text; none of its 1 captions can be used"


def unreadable_image(folder: Path) -> str:
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "a ball"}\n')
    return "first a.png: header"


def missing_image(folder: Path) -> str:
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "a ball"}\n')
    return "file is missing"


def nothing(folder: Path) -> str:
    return f"folder {folder} is empty"


def no_folder(folder: Path) -> str:
    folder.rmdir()
    return f"{folder} does not exist"


def no_train_split(folder: Path) -> str:
    (folder / "captions.jsonl").write_text('{"image": null, "caption": "a", "split": "test"}\n')
    return "split 'train' is unknown in"


def no_words(folder: Path) -> str:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "captions.jsonl").write_text('{"image": "a.png", "captions": []}\n')
    return "no caption holds a word"


@pytest.mark.parametrize(
    "spoil",
    [broken_caption, unreadable_image, missing_image, nothing, no_folder, no_train_split, no_words],
)
def test_data_that_cannot_be_used_are_one_line_and_no_run_folder(
    spoil: Callable[[Path], str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "data"
    data.mkdir()
    message = spoil(data)
    own = "model.image.patch_size=16"  # encoders from scratch, which need no network
    assert main(["train", "--data", str(data), "--out", str(folder / "run"), own]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert message in err
    assert not (folder / "run").exists()


def test_a_process_reports_bad_data_in_one_line_and_exits_with_2(folder: Path) -> None:
    arguments = ["train", "--data", str(folder / "none"), "--out", str(folder / "run")]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert below_reading(done.stderr).startswith(f"error: {folder / 'none'} does not exist")
    assert below_reading(done.stderr).count("\n") == 1
    assert not (folder / "run").exists()


def test_more_broken_items_than_allowed_are_refused_and_fewer_are_listed(
    tiny_config: Configure, pairs_folder: Path, folder: Path
) -> None:
    """Two of 58 items are broken: 3.4 %."""
    shutil.copytree(pairs_folder, folder / "pairs")
    with (folder / "pairs/captions.jsonl").open("a") as file:
        file.write('{"image": "none.png", "captions": ["a"], "split": "train"}\n')
        file.write('{"id": "three", "image": null, "captions": [3], "split": "train"}\n')
    source = f"data.source={folder / 'pairs'}"
    with pytest.raises(DataError, match=r"2 of 58 items \(3.45%\) are broken"):
        train(tiny_config(source), folder / "run", reporter=quiet())
    assert not (folder / "run").exists()
    output = io.StringIO()
    config = tiny_config(source, "data.max_bad=0.05", "optim.steps=1")
    train(config, folder / "run", reporter=ConsoleReporter(Console(file=output)))
    lines = (folder / "run/rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in lines] == ["none.png", "three"]
    assert "skipped 2 broken items, listed in" in output.getvalue()


def test_an_item_that_breaks_while_training_is_listed_and_stays_listed_after_a_resume(
    tiny_config: Configure, pairs_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PNG whose header and end are whole, but not its pixels, and that was not noticed before."""
    shutil.copytree(pairs_folder, folder / "pairs")
    path = folder / "pairs/train-5.png"
    whole = path.read_bytes()
    facts = look_at_image(whole)
    monkeypatch.setattr("tijepa.data.validation.check.look_at_image", lambda data: facts)
    path.write_bytes(whole[:60] + bytes(40) + whole[100:])
    config = tiny_config(f"data.source={folder / 'pairs'}")
    run = folder / "run"
    with monkeypatch.context() as patch:
        interrupt_after(4, patch, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train(config, run, reporter=quiet())
    listed = (run / "rejected.jsonl").read_text()
    assert [json.loads(line)["item"] for line in listed.splitlines()] == ["train-5.png"]
    train(config, run, resume=True, reporter=quiet())
    assert (run / "rejected.jsonl").read_text() == listed


def test_a_folder_with_files_is_not_written_into(tiny_config: Configure, folder: Path) -> None:
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        train(tiny_config(), folder, reporter=quiet())
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_weights_and_biases_is_asked_for_before_anything_is_written(
    tiny_config: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tijepa\[track\]'"):
        train(tiny_config("log.wandb=true"), folder / "run", reporter=quiet())
    assert not (folder / "run").exists()


# --- non-finite -------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_checkpoint(
    tiny_settings: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A weight is poisoned after the fourth update; the checkpoint of step 3 is the last good."""
    update = loop._update

    def poisoned(trainer: loop.Trainer, *arguments: Any) -> Any:
        if arguments[-1] == 4:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(torch.nan)
        return update(trainer, *arguments)

    monkeypatch.setattr(loop, "_update", poisoned)
    run = folder / "run"
    assert main(["train", "--out", str(run), *tiny_settings]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert "at step 5 with learning rate" in err
    assert f"last good checkpoint: {run / 'checkpoints/step-00000003'}" in err
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]
    weights = load_tensors(run / "checkpoints/step-00000003/model.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    assert [r["step"] for r in metrics(run) if r["kind"] == "train"] == [1, 2, 3, 4]


@pytest.mark.parametrize("eval_every", [1, 100])
def test_an_absurd_learning_rate_is_one_line_and_writes_no_bad_checkpoint(
    eval_every: int, tiny_config: Configure, folder: Path
) -> None:
    config = tiny_config("optim.lr=1e36", "optim.warmup=0", f"log.eval_every={eval_every}")
    with pytest.raises(NonFiniteError, match=r"no checkpoint was written yet; lower optim\.lr"):
        train(config, folder / "run", reporter=quiet())


# --- full disk --------------------------------------------------------------------------------


def no_space(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_while_saving_leaves_earlier_checkpoints(
    tiny_settings: list[str],
    tiny_config: Configure,
    tiny_run: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It fills up at the second checkpoint's second file; then there is space again."""
    run = folder / "run"
    sync, calls = os.fsync, []

    def filling(handle: int) -> None:
        calls.append(handle)
        if list((run / "checkpoints").glob(".step-00000006.*.tmp/model.safetensors")):
            no_space()
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", filling)
        assert main(["train", "--out", str(run), *tiny_settings]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert "No space left on device; free some space" in err
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]
    train(tiny_config(), run, resume=True, reporter=quiet())
    assert_same_run(tiny_run, run)


@pytest.mark.parametrize("name", ["config.yaml", "tokenizer.json", "environment.json"])
def test_a_disk_that_is_full_at_the_start_leaves_no_run_folder(
    name: str, tiny_config: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text, write_json = Path.write_text, run_module.write_json

    def text(path: Path, *arguments: Any, **options: Any) -> int:
        if path.name == name:
            no_space()
        return write_text(path, *arguments, **options)

    def as_json(value: Any, path: Path) -> None:
        if path.name == name:
            no_space()
        write_json(value, path)

    monkeypatch.setattr(Path, "write_text", text)
    monkeypatch.setattr(run_module, "write_json", as_json)
    with pytest.raises(CheckpointError, match="No space left on device"):
        train(tiny_config(), folder / "run", reporter=quiet())
    assert not (folder / "run").exists()
    (folder / "empty").mkdir()
    with pytest.raises(CheckpointError, match="No space left on device"):
        train(tiny_config(), folder / "empty", reporter=quiet())
    assert list((folder / "empty").iterdir()) == []


def test_a_run_folder_that_cannot_be_made_is_one_line(
    tiny_settings: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").touch()
    assert main(["train", "--out", str(folder / "file/run"), *tiny_settings]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert "Not a directory" in err


# --- items that lack a modality ---------------------------------------------------------------


def one_sided(folder: Path) -> Path:
    """Images without text and texts without image, no pair at all."""
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for index in range(12):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append({"image": f"{index}.png", "caption": None, "split": "train"})
        rows.append({"image": None, "caption": f"a text number {index}", "split": "train"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_tasks_within_a_modality_learn_from_items_that_lack_the_other(
    tiny_config: Configure, folder: Path
) -> None:
    (folder / "data").mkdir()
    config = tiny_config(
        f"data.source={one_sided(folder / 'data')}",
        "objective.tasks.image_only=1",
        "objective.tasks.text_only=1",
        "objective.tasks.image_infill=1",
        "model.token_predictor.width=8",
        "model.token_predictor.depth=1",
    )
    output = io.StringIO()
    run = train(config, folder / "run", reporter=ConsoleReporter(Console(file=output)))
    records = metrics(run)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for record in records:
        assert math.isfinite(record["loss"])
        assert record["energy/image_only/tokens"] > 0
        assert record["energy/text_only/tokens"] > 0
        assert "energy/image_infill/tokens" not in record
        assert "energy/text_to_image/pooled" not in record
    told = output.getvalue()
    assert "not measured while training: there is no validation split" in told
    assert "no calibrated energy: training split: 0 items with image and text are too few" in told
    assert "not evaluated: there is neither a test nor a validation split" in told
    assert (run / "model/model.safetensors").exists()
    assert (run / "report.html").exists()
    vocabulary = read_json(run / "environment.json")["vocabulary"]
    fresh = build_model(config, vocabulary).state_dict()
    trained = load_tensors(run / "model/model.safetensors")
    for part in ("context.image.", "context.text."):
        moved = [k for k in fresh if k.startswith(part) and not torch.equal(fresh[k], trained[k])]
        assert moved, part


def test_photos_without_any_caption_train_by_image_only_and_by_nothing_that_reads_text(
    tiny_config: Configure, folder: Path
) -> None:
    (folder / "data").mkdir()
    photos = one_sided(folder / "data")
    rows = (photos / "captions.jsonl").read_text().splitlines(keepends=True)
    (photos / "captions.jsonl").write_text("".join(row for row in rows if '"caption": null' in row))
    settings = [
        f"data.source={photos}",
        "objective.tasks.image_only=1",
        "model.token_predictor.width=8",
        "model.token_predictor.depth=1",
    ]
    with pytest.raises(DataError, match="no caption holds a word"):
        train(tiny_config(*settings), folder / "run", reporter=SILENT)
    alone = [
        "objective.tasks.text_to_image.pooled=0",
        "objective.tasks.image_to_text.pooled=0",
        "objective.regularize_text.name=none",
    ]
    run = train(tiny_config(*settings, *alone), folder / "run", reporter=SILENT)
    assert all(record["energy/image_only/tokens"] > 0 for record in metrics(run))


def test_pairs_and_one_sided_items_are_trained_on_together(
    tiny_config: Configure, pairs_folder: Path, folder: Path
) -> None:
    data = folder / "data"
    shutil.copytree(pairs_folder, data)
    own = (data / "captions.jsonl").read_text()
    one_sided(data)
    with (data / "captions.jsonl").open("a") as file:
        file.write(own)
    config = tiny_config(f"data.source={data}", *TOKEN_TASKS, "optim.accumulate=2")
    records = metrics(train(config, folder / "run", reporter=quiet()))
    steps = [record for record in records if record["kind"] == "train"]
    assert all(math.isfinite(record["loss"]) for record in steps)
    names = {name for record in steps for name in record}
    assert {
        f"energy/{task}/tokens" for task in ("image_only", "image_infill", "text_only")
    } <= names
    assert records[-1]["kind"] == "eval"


def test_a_folder_too_small_to_be_measured_is_trained_on_all_the_same(
    tiny_config: Configure, pairs_folder: Path, folder: Path
) -> None:
    """Ten items of training, one of validation, one of test."""
    data = folder / "data"
    data.mkdir()
    rows = []
    for index, split in enumerate([*["train"] * 10, "validation", "test"]):
        shutil.copy(pairs_folder / f"train-{index}.png", data)
        row = {"image": f"train-{index}.png", "caption": f"image {index}", "split": split}
        rows.append(row)
    (data / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = io.StringIO()
    train(
        tiny_config(f"data.source={data}"),
        folder / "run",
        reporter=ConsoleReporter(Console(file=output)),
    )
    assert "not measured while training: validation split: 1 items" in output.getvalue()
    assert "not evaluated: test split: 1 items" in output.getvalue()
    assert (folder / "run/report.html").exists()


# --- what a run leaves ------------------------------------------------------------------------


def test_the_environment_explains_the_run(tiny_run: Path) -> None:
    environment = read_json(tiny_run / "environment.json")
    assert environment["torch"] == torch.__version__
    assert environment["items"] == {"train": 32, "validation": 12, "test": 12}
    assert "captions.jsonl" in environment["data"]
    assert environment["store"]["uri"].endswith(".lance")
    assert environment["store"]["version"] == 1
    assert environment["processor"]
    assert environment["command"]
    assert environment["seed"] == 0
    trained = load_tensors(tiny_run / "model/model.safetensors")
    buffers = sum(value.numel() for name, value in trained.items() if "running_" in name)
    counted = sum(environment["parameters"].values())
    floats = sum(v.numel() for v in trained.values() if v.is_floating_point())
    assert counted <= floats - buffers


def test_the_stored_configuration_is_that_of_the_run(
    tiny_run: Path, tiny_config: Configure
) -> None:
    from tijepa.config import load_config

    assert load_config(file=tiny_run / "config.yaml") == tiny_config()


def test_the_console_names_the_folder_the_phases_and_the_report_once(
    tiny_config: Configure, folder: Path
) -> None:
    output = io.StringIO()
    console = Console(file=output)
    shown = {"reporter": ConsoleReporter(console), "callbacks": [Display(console)]}
    train(tiny_config(), folder / "run[1]", **shown)
    told = output.getvalue()
    assert "\x1b" not in told
    assert told.count("report.html") == 1
    for line in (
        f"results   {folder / 'run[1]'}",
        "train 32, validation 12, test 12",
        "learning the vocabulary …",
        "reading pairs to measure on …",
        "step      6 of 6  loss",
        "pairs/s",
        "step      6  held-out recall@1 image→text",
    ):
        assert line in told, line


def test_on_a_terminal_the_progress_is_one_live_line(tiny_config: Configure, folder: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    shown = {"reporter": ConsoleReporter(console), "callbacks": [Display(console)]}
    train(tiny_config(), folder / "run", **shown)
    told = output.getvalue()
    assert "\x1b" in told
    assert "pairs/s" in told
    assert "left" in told
    assert "6/6" in told
    assert "held-out recall@1" in told


def test_a_run_on_scenes_is_also_evaluated_on_novel_combinations(folder: Path) -> None:
    """The embedded data through the command line, with as little as it takes."""
    config = ["optim.steps=2", "optim.batch_size=4", "data.test_items=8", "data.eval_items=8"]
    small = ["model.image.depth=1", "model.text.depth=1", "data.image_size=32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tijepa.training.backbones.CAPTIONS", 500)
        patch.setattr("tijepa.evaluate.measure.CALIBRATION_PAIRS", 32)
        arguments = ["train", "--out", str(folder / "run"), *config, *small]
        assert main(arguments) == 0
    results = read_json(folder / "run/results.json")
    assert results["retrieval"]["num_images"] == 8
    assert results["novel"]["retrieval"]["num_images"] == 8


def test_pixels_are_seen_as_configured_while_training_and_afterwards(
    tiny_config: Configure, folder: Path
) -> None:
    """Where images are mirrored matters as little as float32 does: they keep their size here."""
    settings = ["data.mean=[0.4,0.4,0.4]", "data.std=[0.25,0.25,0.25]", "data.flip=true"]
    losses = {}
    for augment in ("host", "device"):
        config = tiny_config(*settings, f"data.augment={augment}")
        run = train(config, folder / augment, reporter=SILENT)
        card = tijepa.load(run).card
        assert (card.mean, card.std) == ((0.4, 0.4, 0.4), (0.25, 0.25, 0.25))
        lines = (run / "metrics.jsonl").read_text().splitlines()
        losses[augment] = [json.loads(line)["loss"] for line in lines if '"train"' in line]
    assert losses["host"] == pytest.approx(losses["device"], rel=1e-3)


def test_a_place_that_cannot_be_written_is_known_before_any_work(
    tiny_config: Configure, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    monkeypatch.setattr(run_module, "open_run_data", pytest.fail)
    with pytest.raises(CheckpointError, match=r"file/run: Not a directory; a part of the path is"):
        train(tiny_config(), folder / "file/run", reporter=quiet())


def test_a_few_steps_on_real_photos(few_photos: Path, tiny_config: Configure, folder: Path) -> None:
    config = tiny_config(
        f"data.source={few_photos}",
        "optim.steps=5",
        "log.eval_every=5",
        "data.eval_items=10",
        "data.test_items=20",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tijepa.evaluate.measure.CALIBRATION_PAIRS", 40)
        run = train(config, folder / "run", reporter=quiet())
    results = read_json(run / "results.json")
    assert results["retrieval"]["num_images"] == 20
    assert results["retrieval"]["num_texts"] == 100
    assert results["form"] == "calibrated"
    assert set(results["collapse"]) >= {"image", "text", "gap", "verdict", "reason"}


def test_a_direction_without_weight_says_nothing(tiny_config: Configure, folder: Path) -> None:
    """Image to text alone is trained: the cosine energy is that of this direction, by half, and
    what orders texts and images is the cosine of the one prediction with the text."""
    train(tiny_config("objective.tasks.text_to_image.pooled=0"), folder / "run", reporter=quiet())
    model = tijepa.load(folder / "run", device="cpu")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    e = model.embeddings([(255 * p).byte() for p in images], ["a red ball", "b", "c", "d"])
    assert not e.image_from_text.any()
    to_text = F.normalize(e.text_from_image, dim=1) @ F.normalize(e.text, dim=1).T
    torch.testing.assert_close(model.energy_of(e, "cosine"), 1 - to_text / 2)
    image_rows, text_rows = joint_of(e, "cosine", None)
    torch.testing.assert_close(image_rows @ text_rows.T, to_text / 2)
