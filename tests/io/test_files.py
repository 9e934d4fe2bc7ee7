from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tijepa.errors import DataError
from tijepa.io.files import neighbour, whole, whole_folder

Writer = Callable[[Path], AbstractContextManager[Path]]


def _write(path: Path, folder: bool, text: str) -> None:
    if folder:
        path.mkdir(exist_ok=True)
        path = path / "content"
    path.write_text(text)


def _read(path: Path) -> str:
    return (path / "content" if path.is_dir() else path).read_text()


def _stopped_half_way(writer: Writer, path: Path) -> None:
    with writer(path) as temporary:
        _write(temporary, writer is whole_folder, "ne")
        raise DataError("half way")


@pytest.mark.parametrize("writer", [whole, whole_folder])
class TestBothWriters:
    def test_the_new_takes_its_place_once_the_block_is_through(
        self, writer: Writer, tmp_path: Path
    ) -> None:
        path = tmp_path / "out.csv"
        _write(path, writer is whole_folder, "old")
        with writer(path) as temporary:
            _write(temporary, writer is whole_folder, "new")
            assert _read(path) == "old"
        assert _read(path) == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_error_of_another_kind_passes_and_leaves_the_old(
        self, writer: Writer, tmp_path: Path
    ) -> None:
        path = tmp_path / "out.csv"
        _write(path, writer is whole_folder, "old")
        with pytest.raises(DataError, match="half way"):
            _stopped_half_way(writer, path)
        assert _read(path) == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_the_next_writer_removes_what_a_killed_one_left(
        self, writer: Writer, tmp_path: Path
    ) -> None:
        """That of a process that lives stays, and so does what another file's writer left."""
        path = tmp_path / "out[1].csv"
        killed = _ended_process()
        left = tmp_path / f".out[1].csv.{killed}.tmp"
        _write(left, writer is whole_folder, "half")
        at_work = tmp_path / f".out[1].csv.{os.getppid()}.tmp"
        other = tmp_path / f".other.csv.{killed}.tmp"
        _write(at_work, False, "half")
        _write(other, False, "half")
        with writer(path) as temporary:
            _write(temporary, writer is whole_folder, "new")
        assert set(tmp_path.iterdir()) == {path, at_work, other}


def test_a_leftover_of_this_very_number_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".out.{os.getpid()}.tmp"
    left.mkdir()
    assert neighbour(tmp_path / "out") == left
    assert not left.exists()


def _ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid
