from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.table import TableReader
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def write(root: Path, text: str | bytes, name: str = "captions.jsonl", images: int = 3) -> Path:
    """A folder with images 0.jpg, 1.jpg, ... and a captions file."""
    for number in range(images):
        (root / f"{number}.jpg").write_bytes(jpeg(number))
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def write_rows(root: Path, rows: list[Any], images: int = 3) -> Path:
    return write(root, "\n".join(json.dumps(row) for row in rows), images=images)


def read(root: Path, **options: Any) -> tuple[list[Record], list[Rejected]]:
    found = list(open_reader(str(root), options=ReaderOptions(**options)))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


def texts(root: Path, **options: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """Ids and captions of a source in which all is well."""
    records, rejected = read(root, **options)
    assert rejected == []
    return [(record.id, record.captions) for record in records]


def test_json_lines_give_items_with_captions_splits_and_the_rest(tmp_path: Path) -> None:
    write_rows(
        tmp_path,
        [
            {"image": "0.jpg", "captions": ["a", "b"], "split": "train"},
            {"image": "1.jpg", "caption": "c", "split": "val"},
            {"image": "2.jpg", "text": "d", "split": "Test", "label": 3, "id": 17},
        ],
    )
    records, rejected = read(tmp_path)
    assert rejected == []
    assert [(r.id, r.captions, r.split, r.extra, r.reference) for r in records] == [
        ("0.jpg", ("a", "b"), "train", {}, "captions.jsonl:1"),
        ("1.jpg", ("c",), "validation", {}, "captions.jsonl:2"),
        ("17", ("d",), "test", {"label": 3}, "captions.jsonl:3"),
    ]
    assert [record.image for record in records] == [jpeg(0), jpeg(1), jpeg(2)]


def test_without_a_split_column_records_have_no_split(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": "0.jpg", "caption": "a"}])
    assert [record.split for record in read(tmp_path)[0]] == [None]


def test_items_may_lack_an_image_or_a_text(tmp_path: Path) -> None:
    rows = [
        {"image": None, "text": "only words", "id": "t1"},
        {"image": "0.jpg", "text": None},
        {"image": "1.jpg", "captions": []},
        {"text": "more words"},
    ]
    write_rows(tmp_path, rows)
    assert texts(tmp_path) == [
        ("t1", ("only words",)),
        ("0.jpg", ()),
        ("1.jpg", ()),
        ("line 4", ("more words",)),
    ]
    assert [record.image is None for record in read(tmp_path)[0]] == [True, False, False, True]


def test_rows_of_one_image_become_one_item_also_when_they_lie_apart(tmp_path: Path) -> None:
    """0.jpg is whole only at its second row, so 1.jpg comes first."""
    write(tmp_path, 'image,caption\n0.jpg,"red, bright"\n1.jpg,x\n./0.jpg,a ball\n', "captions.csv")
    assert texts(tmp_path) == [("1.jpg", ("x",)), ("0.jpg", ("red, bright", "a ball"))]


def test_further_columns_of_joined_rows_are_a_list_where_they_differ(tmp_path: Path) -> None:
    text = "image,caption,number,camera\n0.jpg,a,1,X\n0.jpg,b,2,X\n1.jpg,c,,Y\n"
    write(tmp_path, text, "captions.csv")
    records, _ = read(tmp_path)
    assert [record.extra for record in records] == [
        {"number": ["1", "2"], "camera": "X"},
        {"number": None, "camera": "Y"},
    ]


def test_a_caption_column_that_is_not_used_is_kept_besides(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": "0.jpg", "caption": "a dog", "title": "Rex", "path": "p"}])
    assert read(tmp_path)[0][0].extra == {"title": "Rex", "path": "p"}


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
    (record,), _ = read(tmp_path)
    assert (record.id, record.captions, record.split) == ("0.jpg", ("a cat",), "validation")
    assert record.extra == {"extra": "7"}


def test_columns_can_be_named_and_what_was_taken_is_told(tmp_path: Path) -> None:
    write(tmp_path, "bild,wort,teil,x\n0.jpg,ein Ball,dev,1\n", "captions.csv")
    named = {"image_column": "bild", "caption_column": "wort", "split_column": "teil"}
    (record,), _ = read(tmp_path, **named)
    assert (record.captions, record.split) == (("ein Ball",), "validation")
    described = open_reader(str(tmp_path), options=ReaderOptions(**named)).describe()
    for part in (
        "image from 'bild'",
        "captions from 'wort'",
        "split from 'teil'",
        "other columns: x",
    ):
        assert part in described
    with pytest.raises(DataError, match="no column 'foto' for the image; columns: bild, wort"):
        read(tmp_path, image_column="foto")
    with pytest.raises(DataError, match="no column 'part' for the split"):
        read(tmp_path, **(named | {"split_column": "part"}))


def test_a_table_can_be_named_itself_beside_another(tmp_path: Path) -> None:
    write(tmp_path, "image,caption\n0.jpg,a\n", "one.csv")
    write(tmp_path, "image,caption\n1.jpg,b\n", "two.csv")
    assert texts(tmp_path / "two.csv") == [("1.jpg", ("b",))]


def test_an_absolute_path_into_the_folder_is_the_same_as_a_relative_one(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": str(tmp_path / "0.jpg"), "caption": "a"}])
    assert read(tmp_path)[0][0].image == jpeg(0)


GOOD = {"image": "0.jpg", "caption": "good"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "9.jpg", "caption": "a"}, "file is missing"),
        ({"image": "folder", "caption": "a"}, "not a"),
        ({"image": "circle.jpg", "caption": "a"}, "symbolic links"),
        ({"image": "broken-link.jpg", "caption": "a"}, "file is missing"),
        ({"image": "pipe", "caption": "a"}, "not a regular file"),
        ({"image": "0.jpg/1.jpg", "caption": "a"}, "cannot be read"),
        ({"image": "a\0b.jpg", "caption": "a"}, "file name is invalid"),
        ({"image": "\ud83d.jpg", "caption": "a"}, "file name is invalid"),
        ({"image": "x" * 5000, "caption": "a"}, "cannot be read"),
        ({"image": "../0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": "x/../../0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": "/etc/0.jpg", "caption": "a"}, "leads out of the folder"),
        ({"image": 5, "caption": "a"}, "image is '5', not a path"),
        ({"image": [["x"]], "caption": "a"}, "not a path"),
        ({"image": " ", "caption": "a"}, "image path is blank"),
        ({"image": None, "caption": None}, "neither an image nor a caption"),
        (GOOD, "duplicate row"),
        ({"image": "1.jpg", "caption": "a", "x": json.loads("[" * 99 + "]" * 99)}, "deeper than"),
        ([1, 2], "list instead of a JSON object"),
    ],
)
def test_a_row_that_cannot_be_a_record_is_rejected(tmp_path: Path, row: Any, reason: str) -> None:
    write_rows(tmp_path, [GOOD, row])
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "broken-link.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(tmp_path / "pipe")
    records, rejected = read(tmp_path)
    assert [(record.id, record.captions) for record in records] == [("0.jpg", ("good",))]
    assert len(rejected) == 1
    assert reason in rejected[0].reason
    assert "line 2" in f"{rejected[0].item} {rejected[0].reason}"
    rejected[0].item.encode("utf-8")


@pytest.mark.parametrize(
    "captions",
    [" \n", "", 3, ["a", None], ["a", ""], {"n": "a"}, "\ud83d", "x" * 1_000_000, True, [["a"]]],
)
def test_captions_pass_through_unjudged(tmp_path: Path, captions: Any) -> None:
    write_rows(tmp_path, [{"image": "0.jpg", "caption": captions}])
    records, rejected = read(tmp_path)
    expected = tuple(captions) if isinstance(captions, list) else (captions,)
    assert records[0].captions == expected
    assert rejected == []


def test_a_caption_of_a_megabyte_passes_through_csv(tmp_path: Path) -> None:
    write(tmp_path, f"image,caption\n0.jpg,{'x' * 1_000_000}\n", "captions.csv")
    assert texts(tmp_path) == [("0.jpg", ("x" * 1_000_000,))]


def test_images_themselves_are_not_judged(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": n, "caption": "a"} for n in ("empty.jpg", "text.jpg")])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"not found")
    assert [record.image for record in read(tmp_path)[0]] == [b"", b"not found"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{bad", "invalid JSON"),
        (b'{"image": "\xff.jpg"}', "invalid UTF-8"),
        (b"[" * 9999, "invalid JSON: nested too deeply"),
        (b'{"image": "1.jpg", "image": "2.jpg", "caption": "a"}', "key 'image' stands twice"),
        (b'{"image": "1.jpg", "caption": "a", "n": ' + b"9" * 5000 + b"}", "invalid JSON"),
    ],
)
def test_an_invalid_line_is_rejected_with_its_number(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    write(tmp_path, json.dumps(GOOD).encode() + b"\n\n" + line + b"\n")
    records, (problem,) = read(tmp_path)
    assert len(records) == 1
    assert problem.item == "line 3"
    assert reason in problem.reason
    assert "\n" not in problem.reason


def test_nan_and_infinity_are_missing_values(tmp_path: Path) -> None:
    row = '{"image": "0.jpg", "caption": NaN, "a": Infinity, "b": 1e999, "c": [-Infinity, 1.5]}'
    write(tmp_path, row)
    (record,), _ = read(tmp_path)
    assert record.captions == ()
    assert record.extra == {"caption": None, "a": None, "b": None, "c": [None, 1.5]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1.jpg,a,b", "3 cells under a header of 2"),
        (b"1.jpg", "1 cells under a header of 2"),
        (b"1.jpg,\xff", "invalid UTF-8"),
        (b"0.jpg,good", "duplicate"),
        (b'1.jpg,"a', "a quote opens and never closes"),
    ],
)
def test_a_broken_csv_row_is_rejected(tmp_path: Path, line: bytes, reason: str) -> None:
    write(tmp_path, b'image,caption\n0.jpg,good\n0.jpg,"two\nlines"\n' + line, "captions.csv")
    (record,), (problem,) = read(tmp_path)
    assert record.captions == ("good", "two\nlines")
    assert "line 5" in f"{problem.item} {problem.reason}"
    assert reason in problem.reason


def test_an_image_may_not_stand_in_two_splits(tmp_path: Path) -> None:
    rows = [
        {"image": "0.jpg", "caption": c, "split": s} for c, s in [("a", "train"), ("b", "test")]
    ]
    records, (problem,) = read(write_rows(tmp_path, rows))
    assert [(record.captions, record.split) for record in records] == [(("a",), "train")]
    assert "image stands in split 'train' already" in problem.reason


def test_rows_without_a_split_are_rejected_where_others_have_one(tmp_path: Path) -> None:
    rows = [{**GOOD, "split": "train"}, {"image": "1.jpg", "caption": "a"}]
    _, (problem,) = read(write_rows(tmp_path, rows))
    assert "other rows name one" in problem.reason


def test_a_text_that_stands_twice_is_a_duplicate_row(tmp_path: Path) -> None:
    records, (problem,) = read(write_rows(tmp_path, [{"image": None, "text": "a"}] * 2))
    assert len(records) == 1
    assert "duplicate row" in problem.reason


def test_a_column_that_only_a_late_row_has_is_found(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"image": None, "text": f"{n}"} for n in range(1200)]
    rows.append({"image": None, "text": "last", "split": "test"})
    records, rejected = read(write_rows(tmp_path, rows))
    assert [record.captions for record in records] == [("last",)]
    assert len(rejected) == 1200


def test_a_late_row_may_use_another_usual_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by its name in the row itself: the first rows, all that is looked at, lack it."""
    monkeypatch.setattr("tijepa.data.readers.table._HEAD", 1)
    rows = [
        {"image": "0.jpg", "caption": "a", "split": "train"},
        {"file_name": "1.jpg", "text": "b", "split": "train"},
    ]
    assert texts(write_rows(tmp_path, rows)) == [("0.jpg", ("a",)), ("1.jpg", ("b",))]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no recognised image column; columns: a, b"):
        read(tmp_path)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds 2 captions files"):
        read(tmp_path)
    (tmp_path / "captions.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty or has no rows"):
        read(tmp_path)
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "words": "x"}')
    with pytest.raises(DataError, match="no recognised caption column; columns: image, words"):
        read(tmp_path)
    (tmp_path / "captions.jsonl").write_text("{")
    with pytest.raises(DataError, match="no readable row; line 1: invalid JSON"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"is no table: its name must end in \.jsonl"):
        TableReader(str(write(tmp_path, "x", "notes.txt") / "notes.txt"), ReaderOptions())
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "captions.csv").write_text("image,caption\n\n")
    with pytest.raises(DataError, match="is empty or has no rows"):
        read(tmp_path)
    (tmp_path / "captions.csv").write_bytes("image,caption\n0.jpg,a".encode("utf-16"))
    with pytest.raises(DataError, match="is UTF-16 text: save it as UTF-8"):
        read(tmp_path)


@settings(deadline=None, max_examples=60)
@given(places=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_rows_in_any_order_are_joined_by_image(
    tmp_path_factory: pytest.TempPathFactory, places: list[int]
) -> None:
    """Row i names image places[i] and has caption "i": each image gets the rows naming it."""
    rows = [{"image": f"{place}.jpg", "caption": f"{i}"} for i, place in enumerate(places)]
    root = write_rows(tmp_path_factory.mktemp("rows"), rows, images=6)
    expected = {
        f"{place}.jpg": tuple(str(i) for i, other in enumerate(places) if other == place)
        for place in places
    }
    assert sorted(texts(root)) == sorted(expected.items())


def test_the_first_of_each_split_bring_what_was_rejected_after_them(tmp_path: Path) -> None:
    """Rows: train 0, a missing file, train 1, train 2, a missing file, test 0; one of each split.

    The first missing file stands behind train 0, which is taken, the second behind train 2.
    """
    write_rows(
        tmp_path,
        [
            {"image": "0.jpg", "caption": "a", "split": "train"},
            {"image": "gone.jpg", "caption": "b", "split": "train"},
            {"image": "1.jpg", "caption": "c", "split": "train"},
            {"image": "2.jpg", "caption": "d", "split": "train"},
            {"image": "lost.jpg", "caption": "e", "split": "train"},
            {"image": "3.jpg", "caption": "f", "split": "test"},
        ],
        images=4,
    )
    first = list(open_reader(str(tmp_path)).first(1))
    captions = [item.captions[0] if isinstance(item, Record) else item.item for item in first]
    assert captions == ["a", "gone.jpg", "f"]


def test_rows_without_split_count_as_one_split(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"image": f"{n}.jpg", "caption": str(n)} for n in range(3)])
    first = open_reader(str(tmp_path)).first(2)
    assert [item.captions for item in first if isinstance(item, Record)] == [("0",), ("1",)]


def test_several_caption_columns_give_captions_of_one_item(tmp_path: Path) -> None:
    """Named once each, or numbered; blank cells and what stands twice are one caption less."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "b.png")
    (tmp_path / "captions.csv").write_text(
        "image,title,about,price\na.png,a cup,a blue cup,3\nb.png,a bowl,,4\n"
    )
    found, _ = read(tmp_path, caption_column=("title", "about"))
    assert [record.captions for record in found] == [("a cup", "a blue cup"), ("a bowl",)]
    assert [record.extra for record in found] == [{"price": "3"}, {"price": "4"}]
    options = ReaderOptions(caption_column=("title", "about"))
    assert "captions from 'title, about'" in open_reader(str(tmp_path), options=options).describe()
    with pytest.raises(DataError, match="no column 'body' for the caption"):
        read(tmp_path, caption_column=("title", "body"))
    (tmp_path / "captions.csv").write_text(
        "image,caption_1,caption_2\na.png,one,two\nb.png,three,three\n"
    )
    assert [r.captions for r in read(tmp_path)[0]] == [("one", "two"), ("three",)]
