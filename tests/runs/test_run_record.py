from __future__ import annotations

import json
from pathlib import Path

import pytest

from tijepa.data.store.source import Store
from tijepa.errors import CheckpointError
from tijepa.inference.results import Collapse
from tijepa.runs.record import read_run, trained_on


def write_metrics(folder: Path, *lines: object) -> None:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert run.name == tmp_path.name
    assert (run.config, run.environment, run.results, run.rejected) == (None, None, None, None)
    assert (run.train, run.evals) == ((), ())
    assert set(run.problems) == {
        "config.yaml", "environment.json", "results.json", "metrics.jsonl", "rejected.jsonl",
    }  # fmt: skip


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_run(tmp_path / "nowhere")


def test_steps_are_sorted_and_a_repeated_one_counts_as_last_written(tmp_path: Path) -> None:
    write_metrics(
        tmp_path,
        {"kind": "train", "step": 20, "loss": 1},
        {"kind": "train", "step": 40, "loss": 2},
        {"kind": "train", "step": 20, "loss": 3},
        {"kind": "train", "loss": 4},
    )
    assert [(line["step"], line["loss"]) for line in read_run(tmp_path).train] == [(20, 3), (40, 2)]


def test_a_line_cut_short_is_counted_and_the_rest_is_kept(tmp_path: Path) -> None:
    write_metrics(tmp_path, {"kind": "train", "step": 20}, '{"kind": "tra')
    run = read_run(tmp_path)
    assert len(run.train) == 1
    assert run.problems["metrics.jsonl"] == "1 line is damaged in metrics.jsonl and left out here."


def test_rejected_items_of_an_older_run_are_read_by_the_name_of_their_list(tmp_path: Path) -> None:
    (tmp_path / "set_aside.jsonl").write_text('{"item": "old"}\n')
    assert read_run(tmp_path).rejected == ({"item": "old"},)
    (tmp_path / "rejected.jsonl").write_text('{"item": "new"}\n')
    assert read_run(tmp_path).rejected == ({"item": "new"},)


def test_evaluations_are_those_of_the_validation_split_where_there_are_any(tmp_path: Path) -> None:
    test = {"kind": "eval", "step": 1, "split": "test"}
    write_metrics(tmp_path, test, {"kind": "eval", "step": 2, "split": "validation"})
    assert [one.step for one in read_run(tmp_path).evals] == [2]
    write_metrics(tmp_path, test)
    assert read_run(tmp_path).eval_split == "test"


@pytest.mark.parametrize("text", ["{", "[1]", "a: b: c\n"])
def test_a_damaged_file_is_a_problem_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    (tmp_path / "config.yaml").write_text(text)
    run = read_run(tmp_path)
    assert run.results is None
    assert run.config is None
    assert "damaged" in run.problems["results.json"]
    assert "damaged" in run.problems["config.yaml"]


def test_the_last_evaluation_stands_in_until_there_are_results(tmp_path: Path) -> None:
    write_metrics(
        tmp_path,
        {"kind": "eval", "step": 300, "split": "validation", "collapse": {"gap": 1}},
        {"kind": "eval", "step": 600, "split": "validation", "collapse": {"gap": 2}},
    )
    origin = "step 600, validation split, not final"
    found, where = read_run(tmp_path).best_known("collapse")
    assert (found.collapse, where) == (Collapse(gap=2), origin)
    (tmp_path / "results.json").write_text('{"split": "test", "collapse": {"gap": 3}}')
    found, where = read_run(tmp_path).best_known("collapse")
    assert (found.collapse, where) == (Collapse(gap=3), "final model, test split")
    found, where = read_run(tmp_path).best_known("retrieval")
    assert (found.retrieval, where) == (None, "")


def test_a_run_says_which_store_it_was_trained_on(tmp_path: Path) -> None:
    store = Store.__new__(Store)
    store.uri = str(tmp_path / "mine.lance")
    run = tmp_path / "run"
    assert not trained_on(run, store)
    assert not trained_on(object(), store)
    run.mkdir()
    for uri, same in (("mine.lance", True), ("other.lance", False), ("s3://b/mine.lance", False)):
        there = uri if "://" in uri else str(tmp_path / "x" / ".." / uri)
        (run / "environment.json").write_text(json.dumps({"store": {"uri": there}}))
        assert trained_on(run, store) is same
    (run / "environment.json").write_text("[]")
    assert not trained_on(str(run), store)
