from __future__ import annotations

from pathlib import Path

import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.siblings import SiblingsReader
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def put(root: Path, **files: bytes | str) -> Path:
    """`a__b_jpg` is the file a/b.jpg."""
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = root / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(root: Path) -> tuple[list[Record], list[Rejected]]:
    found = list(SiblingsReader(str(root), ReaderOptions()))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_each_line_that_is_not_blank_is_a_caption(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=jpeg(0), a_txt="\ufeffone\r\n \ntwo\n", b_png=b"x", b_txt="")
    records, rejected = read(tmp_path)
    assert [(r.id, r.image, r.captions) for r in records] == [
        ("a.jpg", jpeg(0), ("one", "two")),
        ("b.png", b"x", ()),
    ]
    assert rejected == []


def test_folders_called_as_splits_are_splits_and_others_are_not(tmp_path: Path) -> None:
    put(tmp_path, x__Train__a_jpg=b"1", dev__b_jpg=b"2", latest__c_jpg=b"3", d_jpg=b"4")
    records, _ = read(tmp_path)
    assert {record.id: record.split for record in records} == {
        "x/Train/a.jpg": "train",
        "dev/b.jpg": "validation",
        "latest/c.jpg": None,
        "d.jpg": None,
    }


def test_json_beside_an_image_gives_further_columns_and_captions(tmp_path: Path) -> None:
    put(
        tmp_path,
        a_jpg=b"1",
        a_txt="a dog",
        a_json='{"caption": "a dog ", "title": "Rex", "split": "val", "n": 1}',
        b_jpg=b"2",
        b_json='{"title": "a cat"}',
        c_jpg=b"3",
        c_json='["x", "y"]',
    )
    records, _ = read(tmp_path)
    assert [(r.captions, r.split, r.extra) for r in records] == [
        (("a dog ",), "validation", {"title": "Rex", "n": 1}),
        (("a cat",), None, {}),
        (("x", "y"), None, {}),
    ]


def test_what_cannot_be_used_is_rejected_with_its_reason(tmp_path: Path) -> None:
    put(
        tmp_path,
        a_jpg=b"1",
        a_png=b"2",
        b_txt="no image",
        c_jpg=b"3",
        c_json="{",
        d_jpg=b"5",
        d_json='{"a": 1, "a": 2}',
    )
    (tmp_path / "e.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "f.jpg").symlink_to(tmp_path / "f.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    records, rejected = read(tmp_path)
    assert [record.id for record in records] == ["a.jpg"]
    assert {problem.item: problem.reason for problem in rejected} == {
        "a.png": "a.jpg has the same name and is used",
        "b.txt": "text without an image of the same name",
        "c.jpg": "c.json: invalid JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "d.jpg": "d.json: invalid JSON: key 'a' stands twice in one object",
        "e.jpg": "file is missing",
        "f.jpg": "file cannot be read: Too many levels of symbolic links",
        "loop": "symbolic link leads back to a folder above",
    }


def test_text_that_is_not_utf8_passes_through_for_the_check(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=b"1", a_txt=b"caf\xe9")
    assert read(tmp_path)[0][0].captions == ("caf\udce9",)


def test_names_that_are_not_utf8_give_ids_that_are(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.jpg").write_bytes(b"1")
    (record,), _ = read(tmp_path)
    assert (record.id, record.image) == ("caf\\udce9.jpg", b"1")


def test_images_alone_are_taken_only_when_the_reader_is_named(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=b"1", b_jpg=b"2")
    with pytest.raises(DataError, match="nothing recognised in"):
        open_reader(str(tmp_path))
    assert len(list(open_reader(str(tmp_path), reader="siblings"))) == 2


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    put(tmp_path, a_txt="x")
    with pytest.raises(DataError, match="holds no image"):
        open_reader(str(tmp_path), reader="siblings")
    with pytest.raises(DataError, match="is no folder"):
        open_reader(str(tmp_path / "a.txt"), reader="siblings")
