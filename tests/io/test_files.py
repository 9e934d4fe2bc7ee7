from __future__ import annotations

from pathlib import Path

import pytest

from tijepa.errors import DataError
from tijepa.io.files import whole


def test_a_file_takes_its_place_once_the_block_is_through(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def _stopped_half_way(path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_text("ne")
        raise DataError("half way")


def test_an_error_of_another_kind_passes_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(DataError, match="half way"):
        _stopped_half_way(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
