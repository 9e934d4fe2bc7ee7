from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.complaints import below_reading

import tijepa
from tijepa.cli import main
from tijepa.cli.terminal import ConsoleReporter
from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.errors import CheckpointError, DataError
from tijepa.evaluate.measure import calibrate, calibration_pairs, evaluation_set
from tijepa.evaluate.retrieval import match_results
from tijepa.model.saving import load_tensors, read_json, save_tensors
from tijepa.runs import evaluation as run_module
from tijepa.runs.evaluation import evaluate_run, finish_run

DIRECTION = {"recall_at_1", "recall_at_5", "recall_at_10", "median_rank"}
COLLAPSE = {"image", "text", "matched_energy", "shuffled_energy", "gap", "verdict", "reason"}


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `tijepa evaluate ... --json` prints, which is one JSON object and nothing else."""
    assert main(["evaluate", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    results: dict[str, Any] = json.loads(out)
    return results


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an evaluation that cannot be; stdout stays empty."""
    assert main(["evaluate", *arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    error = [line for line in below_reading(err).splitlines() if not line.endswith("…")]
    assert len(error) == 1
    return error[0].removeprefix("error: ")


def test_json_holds_retrieval_and_collapse(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluated(capsys, str(tiny_run))
    retrieval = results["retrieval"]
    assert set(retrieval) == {
        "image_to_text",
        "text_to_image",
        "num_images",
        "num_texts",
        "chance_at_1",
    }
    assert set(retrieval["image_to_text"]) == set(retrieval["text_to_image"]) == DIRECTION
    assert (retrieval["num_images"], retrieval["num_texts"]) == (12, 24)
    assert retrieval["chance_at_1"] == pytest.approx(1 / 12)
    assert set(results["collapse"]) == COLLAPSE
    assert set(results["energies"]) == {"calibrated", "cosine", "squared_l2"}
    assert results["split"] == "test"


def test_the_results_are_those_that_training_wrote(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = read_json(tiny_run / "results.json")
    assert stored.pop("checkpoint") == "step-00000006"
    assert stored.pop("health")["step"] == 6  # of the run, not of the model
    assert evaluated(capsys, str(tiny_run)) == stored


def test_without_json_there_is_a_table(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_run)]) == 0
    out = capsys.readouterr().out
    assert "evaluating 12 images and 24 texts of" in out
    assert "chance" in out
    assert "report.html" in out


def test_nothing_is_written(tiny_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    evaluate_run(tiny_run)
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def test_another_split_and_another_checkpoint_can_be_measured(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = evaluated(capsys, str(tiny_run))
    train = evaluated(capsys, str(tiny_run), "--split", "train")
    assert train["split"] == "train"
    assert train["retrieval"]["num_images"] == 32
    early = evaluated(capsys, str(tiny_run), "--checkpoint", "3")
    assert early["collapse"] != final["collapse"]
    assert evaluated(capsys, str(tiny_run), "--checkpoint", "last") == final


def test_items_and_captions_are_bounded_by_the_configuration(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "config.yaml"
    text = path.read_text()
    text = text.replace("test_items: 5000", "test_items: 7")
    path.write_text(text.replace("eval_captions: 0", "eval_captions: 1"))
    retrieval = evaluated(capsys, str(run))["retrieval"]
    assert (retrieval["num_images"], retrieval["num_texts"]) == (7, 7)


def test_another_folder_is_measured_with_the_tokenizer_of_the_run(
    tiny_run: Path, pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words that the run never saw are no error; the run's own data need not be read."""
    rows = []
    for index in range(4):
        shutil.copy(pairs_folder / f"train-{index}.png", tmp_path)
        words = f"Zwölf 雪 unbekannte Wörter {index}"
        rows.append({"image": f"train-{index}.png", "caption": words, "split": "test"})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = evaluated(capsys, str(tiny_run), "--data", str(tmp_path))
    assert results["retrieval"]["num_images"] == 4
    assert results["form"] == "calibrated"


def test_a_checkpoint_without_calibration_is_calibrated_on_training_pairs(
    run: Path, pairs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the run itself did when it evaluated that checkpoint, so to the same results."""
    expected = evaluated(capsys, str(run), "--checkpoint", "3")
    assert expected["form"] == "calibrated"
    (run / "checkpoints/step-00000003/calibration.safetensors").unlink()
    assert evaluated(capsys, str(run), "--checkpoint", "3") == expected
    other = evaluated(
        capsys, str(run), "--checkpoint", "3", "--data", str(pairs_folder), "--split", "validation"
    )
    assert other["form"] == "calibrated"
    assert not (run / "checkpoints/step-00000003/calibration.safetensors").exists()


def test_where_training_pairs_are_gone_the_console_says_so(
    run: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    (run / "model/calibration.safetensors").unlink()
    path = run / "config.yaml"
    path.write_text(path.read_text().replace(str(pairs_folder), str(tmp_path / "gone")))
    output = io.StringIO()
    results = evaluate_run(
        run, data=str(pairs_folder), reporter=ConsoleReporter(Console(file=output))
    )
    assert results.form == "cosine"
    assert "no calibrated energy: the run's training pairs are not available" in output.getvalue()
    assert "gone does not exist" in output.getvalue()


def test_a_collapsed_run_says_so_in_its_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The canary on disk: the image head's last layer is zero, so every image is the same."""
    path = run / "model/model.safetensors"
    weights = load_tensors(path)
    names = [n for n, w in weights.items() if n.startswith("context.image_head.") and w.ndim == 2]
    weights[max(names)].zero_()
    save_tensors(weights, path)
    collapse = evaluated(capsys, str(run))["collapse"]
    assert collapse["verdict"] == "collapsed"
    assert "image embeddings are nearly the same for every item" in collapse["reason"]


def test_a_model_that_is_not_finite_still_gives_json(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "model/model.safetensors"
    weights = load_tensors(path)
    for weight in weights.values():
        if weight.is_floating_point():
            weight.fill_(torch.nan)
    save_tensors(weights, path)
    collapse = evaluated(capsys, str(run))["collapse"]
    assert collapse["verdict"] == "collapsed"
    assert collapse["gap"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "tset"], "split 'tset' is unknown in .*; known: train, validation, test$"),
        (["--checkpoint", "4"], "no model '4' in .*; it has step-00000003, step-00000006$"),
        (["--checkpoint", "best"], "no model 'best' in"),
        (["--data", "nowhere"], "nowhere does not exist: check the source"),
    ],
)
def test_what_is_not_there_is_one_line(
    arguments: list[str], message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert re.search(message, refused(capsys, str(tiny_run), *arguments))


def test_folders_that_are_no_run_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a run folder: it has no config.yaml" in refused(capsys, str(tmp_path / "empty"))
    assert "is empty" in refused(capsys, str(run), "--data", str(tmp_path / "empty"))
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints")
    assert "it has no checkpoints" in refused(capsys, str(run))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_is_one_line_that_names_the_file(
    name: str, damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "model" / name
    if damage == "missing":
        path.unlink()
        shutil.rmtree(run / "checkpoints")
    else:
        path.write_bytes(path.read_bytes()[:40])
    line = refused(capsys, str(run))
    assert name in line or (name == "model.json" and "no model 'final'" in line)


def test_too_few_pairs_are_one_line(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.jsonl").write_text(
        '{"image": null, "caption": "a", "split": "test"}\n'
        '{"image": null, "caption": "b", "split": "test"}\n'
    )
    line = refused(capsys, str(tiny_run), "--data", str(tmp_path))
    assert line.startswith("0 items with image and text are too few")


# --- closing a run ----------------------------------------------------------------------------


def finish(run: Path, config: RunConfig, pairs_folder: Path) -> str:
    output = io.StringIO()
    finish_run(
        run,
        config,
        open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01),
        ConsoleReporter(Console(file=output)),
    )
    return output.getvalue()


def test_the_model_is_the_best_checkpoint_where_there_is_one(
    run: Path, tiny_config: Callable[..., RunConfig], pairs_folder: Path
) -> None:
    (run / "checkpoints/best.json").write_text('{"step": 3, "recall": 0.5}')
    finish(run, tiny_config(), pairs_folder)
    early = run / "checkpoints/step-00000003"
    for path in (run / "model").iterdir():
        assert path.read_bytes() == (early / path.name).read_bytes()
    assert read_json(run / "results.json")["checkpoint"] == "step-00000003"


def test_a_calibration_of_an_earlier_model_does_not_stay(
    run: Path, tiny_config: Callable[..., RunConfig], pairs_folder: Path
) -> None:
    (run / "checkpoints/step-00000006/calibration.safetensors").unlink()
    finish(run, tiny_config(), pairs_folder)
    assert not (run / "model/calibration.safetensors").exists()


def test_the_stored_calibration_is_that_of_the_training_and_validation_pairs(
    tiny_run: Path, pairs_folder: Path
) -> None:
    embedder = tijepa.load(tiny_run)
    splits = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01)
    pairs = calibration_pairs(splits.split("train"), 32)
    held_out = evaluation_set(splits.split("validation"), items=1000, captions=0, image_size=32)
    assert embedder.calibration is not None
    stored = embedder.calibration.state()
    assert {"match.pair.slope", "match.texts.intercept"} <= stored.keys()
    for name, value in calibrate(embedder, pairs, held_out).state().items():
        assert torch.equal(value, stored[name]), name


def test_the_results_judge_the_stored_probability_on_the_test_split(
    tiny_run: Path, pairs_folder: Path
) -> None:
    results = read_json(tiny_run / "results.json")
    found = results["match_probability"]
    embedder = tijepa.load(tiny_run)
    source = open_splits(str(pairs_folder), image_size=32, seed=0, max_bad=0.01).split("test")
    data = evaluation_set(source, items=12, captions=1, image_size=32)
    e = embedder.embeddings_of_inputs(data.images, data.texts)
    assert embedder.match is not None
    expected = match_results(embedder.energy_of(e, "calibrated"), embedder.match, seen=False)
    assert found["brier"] == pytest.approx(expected.brier, rel=1e-3)
    assert (found["fitted_on"], found["matched_pairs"]) == ("validation", 12)
    assert found["shuffled_pairs"] == 12 * 11
    assert len(found["bins"]) == 10


def test_on_the_split_of_its_fit_the_probability_is_judged_by_halves(
    tiny_run: Path, pairs_folder: Path
) -> None:
    found = evaluate_run(tiny_run, split="validation").match_probability
    assert found is not None
    assert found.fitted_on == "the other half of the split"
    other = evaluate_run(tiny_run, data=str(pairs_folder), split="validation")
    assert other.match_probability is not None
    assert other.match_probability.fitted_on == "validation"


def test_a_model_without_probability_of_match_is_evaluated_and_says_so(
    run: Path, tiny_config: Callable[..., RunConfig], pairs_folder: Path
) -> None:
    path = run / "checkpoints/step-00000006/calibration.safetensors"
    kept = {n: x for n, x in load_tensors(path).items() if not n.startswith("match.")}
    save_tensors(kept, path)
    assert "no probability of match: it is fitted on" in finish(run, tiny_config(), pairs_folder)
    assert read_json(run / "results.json")["match_probability"] is None
    assert "This model has no probability of match" in (run / "report.html").read_text()


def test_the_path_of_the_report_is_printed_once(
    run: Path, tiny_config: Callable[..., RunConfig], pairs_folder: Path
) -> None:
    told = finish(run, tiny_config(), pairs_folder)
    assert told.count("report.html") == 1
    assert str(run / "report.html") in told
    page = (run / "report.html").read_text()
    assert "data:image" in page


def test_a_disk_that_is_full_at_the_end_leaves_the_old_model_and_report(
    run: Path,
    tiny_config: Callable[..., RunConfig],
    pairs_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("model/model.safetensors", "results.json", "report.html")
    before = {name: (run / name).read_bytes() for name in names}
    copyfile = shutil.copyfile

    def filling(source: Any, target: Any) -> Any:
        if Path(target).name == "tokenizer.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copyfile(source, target)

    monkeypatch.setattr(run_module.shutil, "copyfile", filling)
    with pytest.raises(CheckpointError, match=r"model: No space left on device; free some space"):
        finish(run, tiny_config(), pairs_folder)
    assert {name: (run / name).read_bytes() for name in names} == before
    assert not list(run.glob(".*"))


@pytest.mark.parametrize("name", ["results.json", "report.html"])
def test_results_that_cannot_be_written_are_one_line(
    name: str,
    run: Path,
    tiny_config: Callable[..., RunConfig],
    pairs_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = (run / name).read_bytes()
    replace = os.replace

    def filling(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", filling)
    with pytest.raises(CheckpointError, match=f"cannot write .*{name}: No space left on device"):
        finish(run, tiny_config(), pairs_folder)
    monkeypatch.undo()
    assert (run / name).read_bytes() == before
    assert not list(run.glob(".*"))


def test_a_run_without_checkpoints_cannot_be_closed(
    run: Path, tiny_config: Callable[..., RunConfig], pairs_folder: Path
) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="has no checkpoint to make a model of"):
        finish(run, tiny_config(), pairs_folder)


def test_an_image_that_has_become_unreadable_costs_the_gallery_only(
    run: Path,
    tiny_config: Callable[..., RunConfig],
    pairs_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(*arguments: Any) -> Any:
        raise DataError("file cannot be read")

    monkeypatch.setattr(run_module, "gallery_of", unreadable)
    assert "no gallery: file cannot be read" in finish(run, tiny_config(), pairs_folder)
    assert (run / "report.html").exists()
