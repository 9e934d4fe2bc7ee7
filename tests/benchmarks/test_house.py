from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import house


def write(root: Path, files: dict[str, int]) -> None:
    for name, lines in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n" * lines)


def test_lines_files_and_rooms_are_counted(tmp_path: Path) -> None:
    """3 + 5 lines in `model`, 2 in `model/deep`, 1 in no room; what is no Python counts nothing."""
    write(tmp_path, {"model/a.py": 3, "model/b.py": 5, "model/deep/c.py": 2, "errors.py": 1})
    (tmp_path / "model" / "notes.txt").write_text("1\n2\n")
    (tmp_path / "model" / "a.py").write_text("def f(): ...\nclass A: ...\ndef _g(): ...\n")
    files = house.read(tmp_path)
    assert [(str(one.path), one.room, one.lines) for one in files] == [
        ("errors.py", ".", 1),
        ("model/a.py", "model", 3),
        ("model/b.py", "model", 5),
        ("model/deep/c.py", "model", 2),
    ]
    assert [one.names for one in files] == [0, 2, 0, 0]
    assert house.flat(files) == {".": 1, "model": 2, "model/deep": 1}
    row = next(line for line in house.table(files, files).splitlines() if "model" in line)
    assert row.split() == ["model", "10", "3", "10"]


def test_a_house_within_its_bounds_has_nothing_broken(tmp_path: Path) -> None:
    write(tmp_path, {"a/one.py": 400, "a/two.py": 100, "t/one.py": 400})
    assert house.broken(house.read(tmp_path / "a"), house.read(tmp_path / "t")) == []


@pytest.mark.parametrize(
    ("files", "tested", "problem"),
    [
        ({"one.py": 401}, 400, "one.py has 401 lines, above 400"),
        ({f"room/{k}.py": 1 for k in range(17)}, 17, "room has 17 files flat, above 16"),
        ({f"{k}/a.py": 1 for k in range(201)}, 201, "src has 201 files, 1 above 200"),
        ({"one.py": 10}, 7, "tests have 0.70 lines a line of src, below 0.8"),
        (
            {f"{k}/a.py": 400 for k in range(69)},
            22_080,
            "src has 27,600 lines, 100 more than 27,500",
        ),
    ],
)
def test_a_broken_bound_is_named(
    files: dict[str, int], tested: int, problem: str, tmp_path: Path
) -> None:
    write(tmp_path / "src", files)
    tests = [house.File(Path("t.py"), tested, 0)]
    assert house.broken(house.read(tmp_path / "src"), tests) == [problem]


def test_the_exit_code_says_whether_a_bound_is_broken(tmp_path: Path) -> None:
    command = [sys.executable, house.__file__, "--root", str(tmp_path)]
    write(tmp_path, {"src/tijepa/a.py": 10, "tests/a.py": 8})
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lines of tests for a line of src: 0.80" in done.stdout
    write(tmp_path, {"tests/a.py": 1})
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "broken: tests have 0.10 lines" in done.stdout
