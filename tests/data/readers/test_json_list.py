from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def written(folder: Path, entries: list[Any]) -> list[Record | Rejected]:
    (folder / "a.jpg").write_bytes(jpeg(0))
    (folder / "pairs.json").write_text(json.dumps(entries))
    return list(open_reader(str(folder)))


def test_one_caption_or_several_an_id_and_what_else_there_is(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        [{"image": "a.jpg", "caption": "one", "likes": 3}, {"id": 7, "captions": ["two", "three"]}],
    )
    assert found == [
        Record("a.jpg", "pairs.json: [0]", jpeg(0), ("one",), None, {"likes": 3}),
        Record("7", "pairs.json: [1]", None, ("two", "three"), None, {}),
    ]


def test_what_cannot_be_used_is_rejected_with_its_place(tmp_path: Path) -> None:
    good = {"image": "a.jpg", "caption": "x", "split": "val"}
    bad = [3, {**good, "image": "../a.jpg"}, good, {**good, "image": "gone.jpg"}]
    found = written(tmp_path, [good, *bad, {"image": "a.jpg", "caption": "y", "id": "z"}])
    assert isinstance(found[0], Record)
    assert found[0].split == "validation"
    assert all(isinstance(one, Rejected) for one in found[1:])
    assert "[5]" in str(found[5])
    assert "split is None" in str(found[5])


def test_two_lists_in_a_folder_have_to_be_told_apart(tmp_path: Path) -> None:
    written(tmp_path, [{"image": "a.jpg", "caption": "x"}])
    (tmp_path / "more.json").write_bytes((tmp_path / "pairs.json").read_bytes())
    with pytest.raises(DataError, match="holds 2 JSON lists"):
        open_reader(str(tmp_path), reader="json_list")
    assert open_reader(str(tmp_path / "more.json")).count() == 1
