from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.mvsa import MvsaReader, majority, pair_label
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg

LABELS = st.sampled_from(["negative", "neutral", "positive"])


def published(root: Path, lines: list[str], annotators: int = 1) -> Path:
    """The layout of MVSA-Single with one annotator, of MVSA-Multi with three."""
    (root / "data").mkdir()
    for line in lines:
        name = line.split("\t")[0]
        (root / "data" / f"{name}.jpg").write_bytes(jpeg(int(name)))
        (root / "data" / f"{name}.txt").write_bytes(f"tweet {name}\r\n".encode())
    header = "\t".join(["ID", *["text,image"] * annotators])
    (root / "labelResultAll.txt").write_text("\r\n".join([header, *lines, ""]))
    return root


def read(root: Path) -> tuple[list[Record], list[Rejected]]:
    found = list(open_reader(str(root)))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_single_is_read_with_the_label_of_the_pair(tmp_path: Path) -> None:
    lines = ["1\tpositive,neutral", "2\tnegative,positive", "10\tneutral,neutral"]
    root = published(tmp_path, lines)
    records, rejected = read(root)
    assert rejected == []
    assert [(r.id, r.image, r.captions, r.extra) for r in records] == [
        (
            "1",
            jpeg(1),
            ("tweet 1",),
            {"label": "positive", "text_label": "positive", "image_label": "neutral"},
        ),
        ("2", jpeg(2), ("tweet 2",), {"text_label": "negative", "image_label": "positive"}),
        (
            "10",
            jpeg(10),
            ("tweet 10",),
            {"label": "neutral", "text_label": "neutral", "image_label": "neutral"},
        ),
    ]
    opened = open_reader(str(root))
    assert opened.name == "mvsa"
    assert opened.count() == 3
    assert "as one annotator said" in opened.describe()


def test_multi_takes_the_majority_of_each_side_first(tmp_path: Path) -> None:
    """1: text positive (2 of 3), image neutral (2 of 3) → positive. 2: the texts are three
    different → none. 3: text negative, image positive → a contradiction, none."""
    lines = [
        "1\tpositive,neutral\tpositive,positive\tnegative,neutral",
        "2\tpositive,positive\tneutral,positive\tnegative,positive",
        "3\tnegative,positive\tnegative,positive\tneutral,neutral",
    ]
    records, _ = read(published(tmp_path, lines, annotators=3))
    assert [record.extra.get("label") for record in records] == ["positive", None, None]
    assert records[1].extra == {"image_label": "positive"}
    assert "as most of 3 annotators said" in open_reader(str(tmp_path)).describe()


@given(LABELS, LABELS)
def test_the_label_of_a_pair_does_not_depend_on_which_side_says_what(a: str, b: str) -> None:
    assert pair_label(a, b) == pair_label(b, a)
    assert pair_label(a, a) == a
    assert pair_label(a, "neutral") == a
    assert pair_label(a, None) is None
    assert pair_label("positive", "negative") is None


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_a_majority_is_more_than_half(labels: list[str]) -> None:
    counts = Counter(labels)
    expected = [label for label, count in counts.items() if count > len(labels) / 2]
    assert majority(labels) == (expected[0] if expected else None)


def test_splits_are_eight_to_one_to_one_and_stay(tmp_path: Path) -> None:
    root = published(tmp_path, [f"{n}\tneutral,neutral" for n in range(200)])
    splits = Counter(record.split for record in read(root)[0])
    assert 140 <= splits["train"] <= 180
    assert splits["validation"] >= 8
    assert splits["test"] >= 8
    again = Counter(record.split for record in read(root)[0])
    assert again == splits


def test_a_text_that_is_not_utf8_is_read_as_windows_wrote_it(tmp_path: Path) -> None:
    """0x93 and 0x94 are quotes in Windows-1252; 0x81 is nothing there, and stays as Latin-1."""
    root = published(tmp_path, ["1\tneutral,neutral", "2\tneutral,neutral"])
    (root / "data" / "1.txt").write_bytes(b"\x93caf\xe9\x94")
    (root / "data" / "2.txt").write_bytes(b"caf\xe9 \x81")
    records, _ = read(root)
    assert [r.captions for r in records] == [("“café”",), ("café \x81",)]


def test_what_cannot_be_used_is_rejected_with_its_line(tmp_path: Path) -> None:
    lines = ["1\thappy,neutral", "2", "3\tneutral,neutral", "4\tneutral,neutral"]
    root = published(tmp_path, lines)
    (root / "data" / "4.txt").unlink()
    with (root / "labelResultAll.txt").open("a") as file:
        file.write("../x\tneutral,neutral\r\n")
    records, rejected = read(root)
    assert [record.id for record in records] == ["3"]
    assert [(found.item, found.reason) for found in rejected] == [
        ("1", "line 2: 'happy,neutral' is no pair of negative, neutral, positive"),
        ("2", "line 3: not an ID and its judgements, parted by tabs"),
        ("../x", "line 6: not an ID and its judgements, parted by tabs"),
        ("4", "line 5: file is missing"),
    ]


@pytest.mark.parametrize("table", [b"", b"ID\ttext,image\r\n", b"\xff\xfe\x00"])
def test_a_table_without_a_pair_is_refused(tmp_path: Path, table: bytes) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "labelResultAll.txt").write_bytes(table)
    with pytest.raises(DataError, match=r"labelResultAll\.txt (names no pair|is not UTF-8)"):
        open_reader(str(tmp_path))
    with pytest.raises(DataError, match="file is missing; name the folder it is in"):
        MvsaReader(str(tmp_path / "data"), ReaderOptions())


def test_a_change_of_a_text_changes_the_fingerprint(tmp_path: Path) -> None:
    root = published(tmp_path, ["1\tneutral,neutral"])
    before = open_reader(str(root)).fingerprint()
    (root / "data" / "1.txt").write_text("another tweet")
    assert open_reader(str(root)).fingerprint() != before
