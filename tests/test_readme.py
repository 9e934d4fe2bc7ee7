"""What the documents tell people to type works."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from tijepa.cli.app import app
from tijepa.config import load_config
from tijepa.data import open_splits

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"))
    if path.exists()
)
_SHELL = {"|", ">", "&", ";", "&&"}  # what stands behind is not the program's


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    path = ROOT / document
    if not path.exists():
        return []
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[Any]:
    """Every call of a program in the documents' shell blocks, each named after its document."""
    found = []
    for document in DOCUMENTS:
        for block in [*blocks(document, "bash"), *blocks(document, "sh")]:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                words = list(itertools.takewhile(lambda word: word not in _SHELL, words))
                if words[:1] == [program]:
                    found.append(pytest.param(words[1:], id=f"{document}: {' '.join(words)}"))
    return found


@pytest.fixture
def place(
    tiny_run: Path, pairs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with what the documents speak of: runs, a photo, a folder of photos."""
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "photos"):
        shutil.copytree(tiny_run, tmp_path / "runs" / name)
    shutil.copytree(pairs_folder, tmp_path / "my-photos")
    for name in ("photo.jpg", "found.jpg"):
        Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / name)
    return tmp_path


@pytest.mark.skipif("README.md" not in DOCUMENTS, reason="there is no README.md yet")
def test_the_readme_has_code_and_commands() -> None:
    assert blocks("README.md", "python")
    assert blocks("README.md", "bash")
    assert blocks("README.md", "json")


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_python_of_the_readme_runs_as_it_stands(number: int, place: Path) -> None:
    code = blocks("README.md", "python")[number]
    exec(compile(code, f"README.md, Python block {number}", "exec"), {"__name__": "__main__"})


def test_what_the_readme_says_of_shapes_is_so(place: Path) -> None:
    """Comments such as `# (2, j)` behind an assignment: j is one number for both modalities."""
    namespace: dict[str, Any] = {}
    widths = []
    for code in blocks("README.md", "python"):
        exec(compile(code, "README.md", "exec"), namespace)
        for name, rows in re.findall(r"^(\w+) = .*# \((\d+), j\)", code, re.M):
            assert len(namespace[name]) == int(rows)
            widths.append(namespace[name].shape[1])
    if (ROOT / "README.md").exists():
        assert len(widths) == 2
        assert len(set(widths)) == 1


@pytest.mark.parametrize("block", blocks("README.md", "json"))
def test_rows_of_the_readme_are_read(block: str, tmp_path: Path) -> None:
    for line in block.splitlines():
        image = json.loads(line).get("image")
        if image:
            (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / image)
    (tmp_path / "captions.jsonl").write_text(block)
    splits = open_splits(str(tmp_path), image_size=32, seed=0, max_bad=0.01)
    assert splits.rejected == ()
    assert sum(len(source) for source in splits.splits.values()) == len(block.splitlines())


@pytest.mark.parametrize("arguments", commands("tijepa"))
def test_commands_of_the_documents_parse(arguments: list[str], place: Path) -> None:
    """Verb and options exist, the run is there; presets and overrides make a configuration."""
    if arguments[0].startswith("-"):
        app.make_context("tijepa", arguments)
        return
    verb = app.commands[arguments[0]]
    given = verb.make_context(arguments[0], arguments[1:]).params
    if arguments[0] == "train" and not given["resume"] and given["config"] is None:
        load_config(given["preset"], None, given["overrides"])


def test_a_command_with_a_slip_would_not_parse() -> None:
    with pytest.raises(click.UsageError):
        app.commands["train"].make_context("train", ["--outt", "x"])


@pytest.mark.parametrize("arguments", commands("make"))
def test_targets_of_the_documents_exist(arguments: list[str]) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
