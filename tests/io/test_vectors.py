"""Files of rows that only grow: what the journal counts is there, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tijepa.errors import DataError
from tijepa.io.vectors import JOURNAL, Column, VectorFiles, mapped

COLUMNS = {
    "vectors": Column("vectors.f32", "<f4", "items", 2),
    "rows": Column("rows.u32", "<u4", "items"),
}


def opened(folder: Path) -> VectorFiles:
    return VectorFiles(
        folder,
        COLUMNS,
        unwritable=lambda path, error: DataError(f"cannot write {path}: {error.strerror}"),
        remedy="delete it",
    )


def add(files: VectorFiles, *numbers: int) -> None:
    """Rows n with the vector (n, 0.5 n)."""
    held = files.last["items"] if files.last else 0
    files.append(
        {"items": held + len(numbers), "note": f"{numbers}"},
        {"vectors": np.array([[n, 0.5 * n] for n in numbers]), "rows": np.array(numbers)},
    )


def vectors(files: VectorFiles) -> list[list[float]]:
    found: list[list[float]] = files.rows("vectors", files.last).tolist()
    return found


def test_chunks_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    files = opened(tmp_path / "a" / "b")
    assert files.last is None
    assert files.rows("vectors", None).shape == (0, 2)
    add(files, 1)
    add(files, 2, 3)
    for each in (files, opened(tmp_path / "a" / "b")):
        assert vectors(each) == [[1, 0.5], [2, 1], [3, 1.5]]
        assert each.rows("rows", each.lines[0]).tolist() == [1]
        assert [line["note"] for line in each.lines] == ["(1,)", "(2, 3)"]


@pytest.mark.parametrize("torn", [b"", b'{"items": 3'])
def test_what_was_written_beyond_the_journal_is_overwritten(tmp_path: Path, torn: bytes) -> None:
    whole, files = opened(tmp_path / "whole"), opened(tmp_path / "torn")
    add(whole, 1)
    add(whole, 2)
    add(files, 1)
    with open(files.folder / "vectors.f32", "ab") as file:
        file.write(b"half a row")
    with open(files.folder / JOURNAL, "ab") as file:
        file.write(torn)
    again = opened(files.folder)
    assert vectors(again) == [[1, 0.5]]
    add(again, 2)
    assert {f.name: f.read_bytes() for f in again.folder.iterdir()} == {
        f.name: f.read_bytes() for f in whole.folder.iterdir()
    }


def test_reading_changes_nothing_that_another_process_is_writing(tmp_path: Path) -> None:
    add(opened(tmp_path), 1)
    with open(tmp_path / JOURNAL, "ab") as file:
        file.write(b'{"items"')
    before = (tmp_path / JOURNAL).read_bytes()
    assert vectors(opened(tmp_path)) == [[1, 0.5]]
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_files_that_were_cleared_begin_anew(tmp_path: Path) -> None:
    files = opened(tmp_path / "f")
    add(files, 1, 2)
    held = files.rows("vectors", files.last)
    files.clear()
    add(files, 7)
    assert vectors(files) == [[7, 3.5]]
    assert held.tolist() == [[1, 0.5], [2, 1]]


def test_what_is_concluded_stands_in_the_place_of_the_journal(tmp_path: Path) -> None:
    files = opened(tmp_path)
    add(files, 1)
    files.conclude("facts.json", {"items": 1})
    assert json.loads((tmp_path / "facts.json").read_text()) == {"items": 1}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["facts.json", "rows.u32", "vectors.f32"]


@pytest.mark.parametrize("journal", ["{}}\n", "3\n", "{\n"])
def test_a_damaged_journal_is_an_error_with_its_remedy(tmp_path: Path, journal: str) -> None:
    (tmp_path / JOURNAL).write_text(journal)
    with pytest.raises(DataError, match=r"journal\.jsonl is damaged: delete it"):
        opened(tmp_path)


@pytest.mark.parametrize("damage", ["short", "missing"])
def test_a_damaged_column_is_an_error_with_its_remedy(tmp_path: Path, damage: str) -> None:
    add(opened(tmp_path), 1, 2)
    path = tmp_path / "vectors.f32"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:12])
    else:
        path.unlink()
    files = opened(tmp_path)
    with pytest.raises(DataError, match=r"vectors\.f32 is damaged \(.*\): delete it"):
        files.rows("vectors", files.last)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file.f: "):
        opened(tmp_path / "file" / "f")


def test_a_complete_file_holds_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0" * 9)
    assert mapped(tmp_path / "a", "<f4", (2,)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="a has 9 bytes instead of 8"):
        mapped(tmp_path / "a", "<f4", (2,), complete=True)
