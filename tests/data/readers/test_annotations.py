"""COCO and Karpathy files: where their images are, and what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import Record
from tijepa.errors import DataError

from . import pairs_on_disk as disk


def split_up(source: str | Path, reader: str) -> tuple[list[Record], list[Rejected]]:
    found = list(open_reader(str(source), reader=reader))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


@pytest.mark.parametrize(
    ("source", "count"), [("", 12), ("annotations", 12), ("annotations/captions_val2017.json", 2)]
)
def test_coco_is_found_from_its_root_its_annotations_or_one_file(
    tmp_path: Path, source: str, count: int
) -> None:
    disk.coco(tmp_path, disk.pairs())
    (tmp_path / "annotations/instances_val2017.json").write_text('{"images": [], "x": 1}')
    reader = open_reader(str(tmp_path / source))
    assert reader.name == "coco"
    assert len([record for record in reader if isinstance(record, Record)]) == count
    assert "captions_val2017.json as validation" in reader.describe()


@pytest.mark.parametrize("folder", ["images/val2017", "val", "images", "."])
def test_images_of_coco_are_found_in_the_usual_places(tmp_path: Path, folder: str) -> None:
    disk.coco(tmp_path, disk.pairs())
    moved = tmp_path / folder
    moved.mkdir(parents=True, exist_ok=True)
    for path in (tmp_path / "val2017").iterdir():
        path.rename(moved / path.name)
    records, rejected = split_up(tmp_path / "annotations/captions_val2017.json", "coco")
    assert (len(records), rejected) == (2, [])
    assert records[0].id == "val2017/000000000008.jpg"
    assert records[0].extra == {"image_id": 8, "license": 1, "height": 10, "width": 12}


def test_entries_of_coco_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(disk.jpeg(0))
    content = {
        "images": [
            {"id": 0, "file_name": "0.jpg"},
            {"id": 1, "file_name": "1.jpg"},
            {"id": 0, "file_name": "0.jpg"},
            {"id": 2, "file_name": "../0.jpg"},
            {"id": [3], "file_name": "0.jpg"},
            {"id": 4},
            7,
        ],
        "annotations": [
            {"image_id": 0, "caption": "first"},
            {"image_id": 9, "caption": "a"},
            {"image_id": 0},
            {"caption": "a"},
            None,
            {"image_id": 0, "caption": 5},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    (record,), rejected = split_up(tmp_path / "captions.json", "coco")
    assert record.captions == ("first", 5)
    assert record.split is None
    reasons = [problem.reason for problem in rejected]
    assert reasons == [
        "id 0 stands twice",
        "no object with an id",
        "no file_name",
        "no object with an id",
        "image 9 is not in the list of images",
        "no caption",
        "no object with an image_id",
        "no object with an image_id",
        "file is missing",
        f"image path leads out of the folder {tmp_path}",
    ]


def test_the_split_file_of_coco_names_folders(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014/COCO_val2014_000000391895.jpg").write_bytes(disk.jpeg(1))
    image = {
        "filepath": "val2014",
        "sentids": [1],
        "filename": "COCO_val2014_000000391895.jpg",
        "imgid": 0,
        "split": "restval",
        "sentences": [{"tokens": ["a"], "raw": "A man.", "imgid": 0, "sentid": 1}],
        "cocoid": 391895,
    }
    (tmp_path / "karpathy").mkdir()
    file = tmp_path / "karpathy/dataset_coco.json"
    file.write_text(json.dumps({"images": [image], "dataset": "coco"}))
    (record,), _ = split_up(file, "karpathy")
    assert record.id == "val2014/COCO_val2014_000000391895.jpg"
    assert (record.captions, record.split) == (("A man.",), "train")
    assert record.extra == {"sentids": [1], "imgid": 0, "cocoid": 391895}


@pytest.mark.parametrize("folder", ["Flicker8k_Dataset", "flickr30k-images", "."])
def test_images_of_flickr_are_found_in_the_usual_places(tmp_path: Path, folder: str) -> None:
    disk.karpathy(tmp_path, disk.pairs())
    (tmp_path / folder).mkdir(exist_ok=True)
    for path in (tmp_path / "images").iterdir():
        path.rename(tmp_path / folder / path.name)
    records, rejected = split_up(tmp_path, "karpathy")
    assert (len(records), rejected) == (12, [])


def test_entries_of_a_split_file_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(disk.jpeg(0))
    good = {"filename": "0.jpg", "split": "train", "sentences": [{"raw": "a"}, "b", {}]}
    images = [
        good,
        good,
        {**good, "filename": "1.jpg"},
        {**good, "filename": "../0.jpg"},
        {**good, "filename": None},
        {**good, "filename": "2.jpg", "sentences": None},
        {**good, "filename": "0.jpg", "filepath": "./", "split": None},
        3,
    ]
    file = tmp_path / "dataset_x.json"
    file.write_text(json.dumps({"images": images}))
    (record,), rejected = split_up(file, "karpathy")
    assert record.captions == ("a", "b", {})
    assert [problem.reason for problem in rejected] == [
        "filename stands twice",
        "file is missing",
        f"image path leads out of the folder {tmp_path}",
        "no filename",
        "no list of sentences",
        "split is None, while other rows name one",
        "no object",
    ]


KARPATHY = '{"images": [{"filename": "a", "sentences": [{"raw": "x"}]}'
COCO = '{"images": [{"file_name": "a", "id": 1}], "annotations": [{"image_id": 1, "caption": "a"}'


@pytest.mark.parametrize(("reader", "start"), [("karpathy", KARPATHY), ("coco", COCO)])
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("", "invalid JSON: Expecting"),
        ('], "a": ' + "[" * 9999, "nested too deeply"),
        ('], "a": 1, "a": 2}', "key 'a' stands twice"),
        ('], "images": 5}', "key 'images' stands twice"),
    ],
)
def test_a_file_that_is_no_json_is_refused_in_one_line(
    tmp_path: Path, reader: str, start: str, end: str, reason: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text(start + end)
    assert open_reader(str(file)).name == reader
    with pytest.raises(DataError, match=reason) as caught:
        list(open_reader(str(file)))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_json_is_not_taken_for_annotations(tmp_path: Path) -> None:
    contents: list[Any] = [[], {}, {"images": []}, {"images": [{"filename": "a"}]}]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="nothing recognised"):
        open_reader(str(tmp_path))
    with pytest.raises(DataError, match="holds no COCO captions"):
        open_reader(str(tmp_path), reader="coco")
    with pytest.raises(DataError, match="holds no split file of Karpathy"):
        open_reader(str(tmp_path), reader="karpathy")


def test_two_split_files_in_one_folder_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(KARPATHY + "]}")
    with pytest.raises(DataError, match=r"holds 2 split files \(a.json, b.json\): name one"):
        open_reader(str(tmp_path))


@pytest.mark.parametrize("write", [disk.coco, disk.karpathy])
def test_a_split_file_of_karpathy_goes_before_the_annotations_it_was_made_from(
    tmp_path: Path, write: Callable[..., str]
) -> None:
    disk.karpathy(tmp_path, disk.pairs())
    assert open_reader(str(tmp_path)).name == "karpathy"
    if write is disk.coco:
        write(tmp_path, disk.pairs())
        assert open_reader(str(tmp_path)).name == "karpathy"
