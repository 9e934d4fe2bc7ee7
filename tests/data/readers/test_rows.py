from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.readers.columns import Row, recognised_names
from tijepa.data.readers.rows import read_rows
from tijepa.data.records import ReaderOptions

KNOWN = recognised_names(ReaderOptions())

# a lone carriage return is a line break to csv; a surrogate cannot be written to a file at all
cells = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12).map(
    lambda text: "x" + text.replace("\r", " ")
)
headers = st.tuples(
    st.sampled_from(["image", "Filename", "path"]), st.sampled_from(["caption", "text", "Title"])
)
further = st.lists(st.text("abc,;|\t ", min_size=1, max_size=8).map("z".__add__), max_size=3)


@settings(deadline=None, max_examples=150)
@given(
    separator=st.sampled_from([",", ";", "|", "\t"]), header=headers, more=further, data=st.data()
)
def test_what_the_csv_writer_wrote_is_read_whatever_the_separator(
    tmp_path_factory: pytest.TempPathFactory,
    separator: str,
    header: tuple[str, str],
    more: list[str],
    data: st.DataObject,
) -> None:
    """Further columns are named with separators in them, so that counting signs would fail."""
    columns = [*header, *dict.fromkeys(name.strip() for name in more)]
    rows = data.draw(
        st.lists(st.lists(cells, min_size=len(columns), max_size=len(columns)), max_size=5)
    )
    file: Path = tmp_path_factory.mktemp("csv") / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, delimiter=separator).writerows([columns, *rows])
    found = list(read_rows(file, KNOWN))
    assert all(isinstance(row, Row) for row in found)
    assert [list(row.values.values()) for row in found if isinstance(row, Row)] == rows
    assert all(list(row.values) == columns for row in found if isinstance(row, Row))


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300), ending=st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_bytes_give_rows_or_reasons(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = b"x" + content
    file: Path = tmp_path_factory.mktemp("rows") / f"a{ending}"
    file.write_bytes(content)
    for row in read_rows(file, KNOWN):
        assert isinstance(row, Row) or row.reason


def test_names_of_columns_are_unique_and_never_blank(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",image,caption,caption\n7,0.jpg,a,b\n")
    (row,) = read_rows(tmp_path / "a.csv", KNOWN)
    assert isinstance(row, Row)
    assert row.values == {"column 1": "7", "image": "0.jpg", "caption": "a", "caption.1": "b"}


def test_a_line_beyond_the_bound_is_skipped_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tijepa.data.readers.rows._MAX_LINE", 100)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": "' + "x" * 500 + '"}\n{"a": 2}\n')
    first, problem, last = read_rows(tmp_path / "a.jsonl", KNOWN)
    assert first == Row(1, {"a": 1})
    assert last == Row(3, {"a": 2})
    assert (problem.item, problem.reason) == ("line 2", "longer than 100 bytes")
