from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tijepa.data import open_splits
from tijepa.data.folder import folder_splits
from tijepa.data.pairs import PairSplits
from tijepa.errors import DataError


def jpeg(colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10), (colour % 256, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(root: Path, text: str | bytes, name: str = "captions.jsonl", pictures: int = 3) -> Path:
    """A folder with pictures 0.jpg, 1.jpg, ... and a captions file."""
    for number in range(pictures):
        (root / f"{number}.jpg").write_bytes(jpeg(number))
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def write_rows(root: Path, rows: list[Any], pictures: int = 3) -> Path:
    return write(root, "\n".join(json.dumps(row) for row in rows), pictures=pictures)


def contents(splits: PairSplits) -> Mapping[str, list[tuple[str, tuple[str, ...]]]]:
    return {
        name: [(source.item_id(i), source.captions(i)) for i in range(len(source))]
        for name, source in splits.splits.items()
    }


def test_json_lines_give_items_with_captions_and_splits(tmp_path: Path) -> None:
    write_rows(
        tmp_path,
        [
            {"image": "0.jpg", "captions": ["a", "b"], "split": "train"},
            {"image": "1.jpg", "caption": "c", "split": "val"},
            {"image": "2.jpg", "text": "d", "split": "Test", "label": 3},
        ],
    )
    splits = folder_splits(tmp_path)
    assert contents(splits) == {
        "train": [("0.jpg", ("a", "b"))],
        "validation": [("1.jpg", ("c",))],
        "test": [("2.jpg", ("d",))],
    }
    assert splits.set_aside == ()
    image = splits.split("test").image(0, 4)
    assert image is not None
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", " Dev "])
def test_usual_names_of_the_validation_split_are_one(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path, [{"image": "0.jpg", "caption": "a", "split": name}])
    assert list(folder_splits(tmp_path).splits) == ["validation"]


def test_other_split_names_stay_as_they_are(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": "0.jpg", "caption": "a", "split": "unlabelled"}])
    assert list(folder_splits(tmp_path).splits) == ["unlabelled"]


def test_items_may_lack_an_image_or_a_text(tmp_path: Path) -> None:
    write_rows(
        tmp_path,
        [
            {"image": None, "text": "only words", "id": "t1"},
            {"image": "0.jpg", "text": None},
            {"image": "1.jpg", "captions": []},
            {"text": "more words"},
        ],
    )
    train = folder_splits(tmp_path).split("train")
    assert [train.item_id(i) for i in range(4)] == ["t1", "0.jpg", "1.jpg", "line 4"]
    assert [train.captions(i) for i in range(4)] == [("only words",), (), (), ("more words",)]
    assert train.image(0, 8) is None
    assert train.image(1, 8) is not None


def test_csv_rows_of_one_image_become_one_item(tmp_path: Path) -> None:
    write(tmp_path, 'image,caption\n0.jpg,"red, bright"\n1.jpg,x\n0.jpg,a ball\n', "captions.csv")
    assert contents(folder_splits(tmp_path)) == {
        "train": [("0.jpg", ("red, bright", "a ball")), ("1.jpg", ("x",))]
    }


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "|"), ("a.tsv", "\t")]
)
@pytest.mark.parametrize("columns", [("file", "text"), ("Filename", "Title"), ("path", "caption")])
def test_separators_and_usual_columns_are_recognised(
    tmp_path: Path, name: str, separator: str, columns: tuple[str, str]
) -> None:
    rows = [("extra", *columns, "split"), ("7", "0.jpg", "a cat", "dev")]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    write(tmp_path, text, name)
    assert contents(folder_splits(tmp_path)) == {"validation": [("0.jpg", ("a cat",))]}


def test_columns_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, "bild,wort\n0.jpg,ein Ball\n", "captions.csv")
    splits = folder_splits(tmp_path, image_column="bild", caption_column="wort")
    assert contents(splits) == {"train": [("0.jpg", ("ein Ball",))]}
    with pytest.raises(DataError, match="no column 'foto' for the image; columns: bild, wort"):
        folder_splits(tmp_path, image_column="foto")


GOOD = {"image": "0.jpg", "caption": "good"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "9.jpg", "caption": "a"}, "file is missing"),
        ({"image": "empty.jpg", "caption": "a"}, "file is empty"),
        ({"image": "cut.jpg", "caption": "a"}, "JPEG is truncated"),
        ({"image": "text.jpg", "caption": "a"}, "not a picture"),
        ({"image": "../0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": "x/../../0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": "/etc/0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": 5, "caption": "a"}, "image is 5, not a path"),
        ({"image": " ", "caption": "a"}, "image path is blank"),
        ({"image": "1.jpg", "caption": " \n"}, "caption is blank"),
        ({"image": "1.jpg", "captions": ["a", ""]}, "caption is blank"),
        ({"image": "1.jpg", "caption": 3}, "caption is 3, not a string"),
        ({"image": "1.jpg", "captions": ["a", None]}, "caption is None, not a string"),
        ({"image": "1.jpg", "caption": "\ud83d"}, "caption is not valid Unicode"),
        ({"image": None, "caption": None}, "neither an image nor a caption"),
        (GOOD, "duplicate of an earlier row"),
        ([1, 2], "list instead of a JSON object"),
    ],
)
def test_a_broken_row_is_set_aside_with_its_reason(tmp_path: Path, row: Any, reason: str) -> None:
    write_rows(tmp_path, [GOOD, row])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:-9])
    (tmp_path / "text.jpg").write_bytes(b"not found")
    splits = folder_splits(tmp_path, max_bad=0.5)
    assert contents(splits) == {"train": [("0.jpg", ("good",))]}
    assert len(splits.set_aside) == 1
    assert reason in splits.set_aside[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"{bad", "invalid JSON"), (b'{"image": "\xff.jpg"}', "invalid UTF-8"), (b"[" * 9999, "JSON")],
)
def test_an_invalid_line_is_set_aside_with_its_number(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    write(tmp_path, json.dumps(GOOD).encode() + b"\n\n" + line + b"\n")
    (problem,) = folder_splits(tmp_path, max_bad=0.5).set_aside
    assert problem.item == "line 3"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1.jpg,a,b", "3 cells under a header of 2"),
        (b"1.jpg", "1 cells under a header of 2"),
        (b"1.jpg,\xff", "invalid UTF-8"),
        (b"0.jpg,good", "duplicate"),
    ],
)
def test_a_broken_csv_row_is_set_aside(tmp_path: Path, line: bytes, reason: str) -> None:
    write(tmp_path, b'image,caption\n0.jpg,good\n0.jpg,"two\nlines"\n' + line, "captions.csv")
    splits = folder_splits(tmp_path, max_bad=0.5)
    assert contents(splits) == {"train": [("0.jpg", ("good", "two\nlines"))]}
    (problem,) = splits.set_aside
    assert "line 5" in f"{problem.item} {problem.reason}"
    assert reason in problem.reason


def test_an_image_may_not_stand_in_two_splits(tmp_path: Path) -> None:
    rows = [
        {"image": "0.jpg", "caption": c, "split": s} for c, s in [("a", "train"), ("b", "test")]
    ]
    splits = folder_splits(write_rows(tmp_path, rows), max_bad=0.5)
    assert contents(splits) == {"train": [("0.jpg", ("a",))]}
    assert "already" in splits.set_aside[0].reason


def test_rows_without_a_split_are_set_aside_where_others_have_one(tmp_path: Path) -> None:
    rows = [{**GOOD, "split": "train"}, {"image": "1.jpg", "caption": "a"}]
    splits = folder_splits(write_rows(tmp_path, rows), max_bad=0.5)
    assert "other rows name one" in splits.set_aside[0].reason


def test_too_many_broken_items_are_refused_with_the_remedy(tmp_path: Path) -> None:
    """2 of 4 items are broken: 50 %."""
    names = ("0.jpg", "8.jpg", "1.jpg", "9.jpg")
    write_rows(tmp_path, [{"image": name, "caption": "a"} for name in names])
    with pytest.raises(DataError) as caught:
        folder_splits(tmp_path, max_bad=0.4)
    message = str(caught.value)
    for part in ("2 of 4", "50.00%", "40.00%", "8.jpg: file is missing", "data.max_bad=0.5"):
        assert part in message
    assert "\n" not in message
    assert len(folder_splits(tmp_path, max_bad=0.5).set_aside) == 2


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        folder_splits(tmp_path / "none")
    with pytest.raises(DataError, match="is empty"):
        folder_splits(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        folder_splits(tmp_path / "file.txt")
    with pytest.raises(DataError, match=r"looked for captions\.jsonl, pairs\.jsonl"):
        folder_splits(tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no recognised image column; columns: a, b"):
        folder_splits(tmp_path)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds 2 captions files"):
        folder_splits(tmp_path)
    (tmp_path / "captions.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty: write one row"):
        folder_splits(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "words": "x"}')
    with pytest.raises(DataError, match="no recognised caption column; columns: image, words"):
        folder_splits(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "text": "x"}')
    with pytest.raises(DataError, match=r"no usable item of 1; first a\.jpg: file is missing"):
        folder_splits(tmp_path, max_bad=1.0)
    (tmp_path / "captions.jsonl").write_text("{")
    with pytest.raises(DataError, match="no readable row; line 1: invalid JSON"):
        folder_splits(tmp_path, max_bad=1.0)


def test_a_damaged_picture_body_is_a_data_error_when_read(tmp_path: Path) -> None:
    write_rows(tmp_path, [GOOD])
    train = folder_splits(tmp_path).split("train")
    os.remove(tmp_path / "0.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        train.image(0, 8)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 200), salt=st.integers(0, 10**6))
def test_without_a_split_column_items_are_split_by_their_id(
    tmp_path_factory: pytest.TempPathFactory, count: int, salt: int
) -> None:
    """No split is empty from 20 items on, and the order of the rows does not matter."""
    root = tmp_path_factory.mktemp("texts")
    rows = [{"image": None, "id": f"{salt}-{i}", "text": f"text {i}"} for i in range(count)]
    splits = contents(folder_splits(write_rows(root, rows, pictures=0)))
    assert list(splits) == (["train"] if count < 20 else ["train", "validation", "test"])
    assert sum(len(items) for items in splits.values()) == count
    again = contents(folder_splits(write_rows(root, rows[::-1], pictures=0)))
    assert {name: set(items) for name, items in splits.items()} == {
        name: set(items) for name, items in again.items()
    }


def test_the_split_by_id_is_about_ninety_five_five(tmp_path: Path) -> None:
    """2,000 items: 100 expected in each small split, standard deviation 9.7; bounds 5 of them."""
    rows = [{"image": None, "id": i, "text": f"text {i}"} for i in range(2000)]
    splits = folder_splits(write_rows(tmp_path, rows, pictures=0)).splits
    assert 51 < len(splits["validation"]) < 149
    assert 51 < len(splits["test"]) < 149


def test_open_splits_opens_scenes_and_folders(tmp_path: Path) -> None:
    write_rows(tmp_path, [GOOD])
    opened = open_splits(str(tmp_path), image_size=16, seed=0, max_bad=0.0)
    assert contents(opened) == {"train": [("0.jpg", ("good",))]}
    scenes = open_splits("scenes", image_size=32, seed=0, max_bad=0.0)
    assert {"train", "validation", "test"} <= set(scenes.splits)
    image = scenes.split("validation").image(0, 32)
    assert image is not None
    assert image.shape == (32, 32, 3)


def test_flickr8k_opens_without_options(real_data: Path) -> None:
    splits = folder_splits(real_data / "data/flickr8k")
    sizes = {name: len(source) for name, source in splits.splits.items()}
    assert sizes == {"train": 6091, "validation": 1000, "test": 1000}
    assert splits.set_aside == ()


def test_mvsa_single_opens_without_options(real_data: Path) -> None:
    splits = folder_splits(real_data / "data/mvsa_single")
    sizes = {name: len(source) for name, source in splits.splits.items()}
    assert sizes == {"train": 4000, "test": 511, "unlabelled": 358}
