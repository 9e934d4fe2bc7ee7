"""`tijepa.train` on whatever holds pairs: the same run as the command line makes of a folder."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tijepa
from tijepa.config import RunConfig
from tijepa.data.readers.datasets import remember
from tijepa.errors import CheckpointError, ConfigError, DataError

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def settings(tiny_settings: list[str]) -> dict[str, Any]:
    """The overrides of a tiny run as keywords, without its data."""
    pairs = (setting.split("=", 1) for setting in tiny_settings)
    given = {key.replace(".", "__"): value for key, value in pairs if key != "data.source"}
    texts = {"auto", "cpu", "float32"}
    return {
        "log__tensorboard": False,
        **{key: v if v in texts else json.loads(v) for key, v in given.items()},
    }


@pytest.fixture(scope="module")
def items(pairs_folder: Path) -> list[dict[str, Any]]:
    """The pairs of the folder, their images in turn as path, bytes, PIL image and array."""
    rows = map(json.loads, (pairs_folder / "captions.jsonl").read_text().splitlines())

    def image(number: int, path: Path) -> Any:
        with Image.open(path) as opened:
            kinds = (path, path.read_bytes(), opened.convert("RGB"), np.asarray(opened))
        return kinds[number % 4]

    return [{**row, "image": image(k, pairs_folder / row["image"])} for k, row in enumerate(rows)]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def test_a_sequence_of_items_trains_like_the_folder_that_holds_them(
    items: list[dict[str, Any]], settings: dict[str, Any], tiny_run: Path, tmp_path: Path
) -> None:
    run = tijepa.train(items, out=tmp_path / "run", **settings)
    assert isinstance(run, tijepa.Run)
    assert losses(run.path) == losses(tiny_run)
    assert run.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run.results.retrieval is not None
    assert run.results.retrieval.num_images == 12
    assert run.model.encode_text("a red circle").shape[0] == 1
    assert run.model is run.model


def test_a_run_on_items_is_resumed_with_the_same_items_as_if_it_had_never_stopped(
    items: list[dict[str, Any]], settings: dict[str, Any], tiny_run: Path, tmp_path: Path
) -> None:
    class Interrupting(tijepa.Callback):
        def on_step(self, step: int, record: Mapping[str, Any] | None) -> None:
            if step == 4:
                signal.raise_signal(signal.SIGINT)

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        tijepa.train(items, out=out, callbacks=[Interrupting()], **settings)
    with pytest.raises(CheckpointError, match=r"was not evaluated; tijepa\.evaluate\('.*run'\)"):
        assert tijepa.Run(out).results
    with pytest.raises(ConfigError, match=r"data\.source is memory:\w+ in .*, not memory:"):
        tijepa.train(items[:-1], out=out, resume=True)
    with pytest.raises(ConfigError, match=r"optim\.lr is 0\.001 in .*a resumed run keeps its"):
        tijepa.train(items, out=out, resume=True, optim__lr=0.5)
    run = tijepa.train(items, out=out, resume=True)
    assert losses(run.path) == losses(tiny_run)


def test_the_store_of_items_is_found_again_by_a_program_that_does_not_hold_them(
    items: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tijepa.data import open_splits
    from tijepa.data.readers import datasets

    options: dict[str, Any] = {"image_size": 32, "seed": 0, "max_bad": 0.0}
    source = remember(items)
    assert len(open_splits(source, **options).split("train")) == 32
    monkeypatch.setattr(datasets, "_given", {})
    assert len(open_splits(source, **options).split("train")) == 32
    monkeypatch.setenv("TIJEPA_CACHE", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"data of a program.*give the same data to tijepa\.train"):
        open_splits(source, **options)


def test_equal_data_have_one_name_and_other_data_another(items: list[dict[str, Any]]) -> None:
    def changed() -> Iterator[list[dict[str, Any]]]:
        yield items[1:]
        yield [{**items[0], "captions": ["another"]}, *items[1:]]
        yield [{**items[3], "image": np.zeros((4, 4, 3), np.uint8)}, *items[1:]]
        yield [{**items[2], "image": Image.new("RGB", (4, 4))}, *items[1:]]

    name = remember(items)
    assert remember(iter(items)) == remember([dict(item) for item in items]) == name
    others = {remember(other) for other in changed()}
    assert len(others) == 4
    assert name not in others
    assert remember({"train": items}) != name


def test_splits_may_be_the_keys_of_a_mapping(items: list[dict[str, Any]]) -> None:
    from tijepa.data.readers import open_reader

    plain = [{"image": item["image"], "caption": item["captions"][0]} for item in items[:4]]
    reader = open_reader(remember({"train": plain[:3], "val": plain[3:]}))
    assert [(record.id, record.split) for record in reader] == [  # type: ignore[union-attr]
        ("train:1", "train"),
        ("train:2", "train"),
        ("train:3", "train"),
        ("val:1", "validation"),
    ]
    assert reader.count() == 4


def test_what_is_no_image_is_listed_and_not_used(items: list[dict[str, Any]]) -> None:
    from tijepa.data.pairs import Rejected
    from tijepa.data.readers import open_reader

    odd = [*items[:1], {"image": 3.5, "captions": "a"}, {"image": None, "captions": None}]
    first, *rest = open_reader(remember(odd))
    assert not isinstance(first, Rejected)
    assert [(item.item, item.reason) for item in rest if isinstance(item, Rejected)] == [
        ("item:2", "image is float, not bytes, a path or an image"),
        ("item:3", "neither an image nor a caption"),
    ]


@pytest.mark.parametrize("data", [[], {"train": []}, [{}]])
def test_data_without_items_are_refused(data: Any) -> None:
    with pytest.raises(DataError, match="the data given hold no item"):
        remember(data)


def test_a_dataset_of_hugging_face_is_read_as_it_lies(items: list[dict[str, Any]]) -> None:
    datasets = pytest.importorskip("datasets")
    from tijepa.data.readers import open_reader

    def encoded(item: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        image = item["image"]
        opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else Image.open(image)
        opened.save(buffer, "PNG")
        return buffer.getvalue()

    rows = [
        {"image": {"bytes": encoded(item), "path": None}, "captions": item["captions"]}
        for item in items[:8]
        if isinstance(item["image"], bytes | Path)
    ]
    features = datasets.Features(
        {"image": datasets.Image(), "captions": datasets.Sequence(datasets.Value("string"))}
    )
    one = datasets.Dataset.from_list(rows, features=features)
    records = list(open_reader(remember(one)))
    assert [record.captions for record in records] == [  # type: ignore[union-attr]
        tuple(row["captions"]) for row in rows
    ]
    assert records[0].image == rows[0]["image"]["bytes"]  # type: ignore[union-attr, index]
    both = datasets.DatasetDict({"train": one, "test": one.select([0])})
    splits = [record.split for record in open_reader(remember(both))]  # type: ignore[union-attr]
    assert splits == ["train"] * len(rows) + ["test"]
    assert remember(one) == remember(one) != remember(both)


def test_a_configuration_that_is_built_takes_data_but_no_further_settings(
    tiny_config: Configure, pairs_folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    config = tiny_config("data.source=nowhere")
    run = tijepa.train(pairs_folder, config=config, out=tmp_path / "run")
    assert losses(run.path) == losses(tiny_run)
    with pytest.raises(ConfigError, match=r"a `config` that is built is whole.*optim\.lr"):
        tijepa.train(pairs_folder, config=config, out=tmp_path / "other", optim__lr=0.1)


def test_an_unknown_setting_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim\.learning_rat|optim\.lr"):
        tijepa.train("scenes", out=tmp_path / "run", optim__lrr=0.1)
    assert not (tmp_path / "run").exists()


def test_resuming_needs_a_folder_with_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resume needs `out`"):
        tijepa.train("scenes", resume=True)
    with pytest.raises(CheckpointError, match=r"holds no run \(config\.yaml\)"):
        tijepa.train("scenes", out=tmp_path, resume=True)


def test_progress_is_one_line_on_stderr_and_nothing_else_is_printed(
    settings: dict[str, Any], pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tijepa.train(str(pairs_folder), out=tmp_path / "run", progress=True, **settings)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("\rstep 1/6  loss ")
    assert told.err.count("\n") == 1
