from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tijepa.cli.terminal import ConsoleReporter
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits
from tijepa.data.store.prepare import cache_folder
from tijepa.errors import DataError


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stores"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    add(folder, 0)
    add(folder, 1)
    return folder


def add(folder: Path, number: int) -> None:
    Image.new("RGB", (8 + number, 8)).save(folder / f"{number}.png")
    with (folder / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"image": f"{number}.png", "captions": [f"photo {number}"]}) + "\n")


def opened(folder: Path, max_bad: float = 0.0) -> PairSplits:
    return open_splits(str(folder), image_size=8, seed=0, max_bad=max_bad)


def entries(stores: Path) -> set[str]:
    return {path.name for path in stores.glob("*.lance")}


def test_a_folder_is_prepared_once_and_its_images_are_not_read_again(
    photos: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(photos)
    assert (len(first.split("train")), first.version) == (2, 1)
    assert len(entries(stores)) == 1

    def read(*arguments: object) -> None:
        raise AssertionError("an image was looked at")

    monkeypatch.setattr("tijepa.data.validation.check.look_at_image", read)
    second = opened(photos)
    assert second.uri == first.uri
    image = second.split("train").read([1])[0].image
    assert image is not None
    assert image.pixels(1).shape == (8, 9, 3)


def test_a_folder_that_changed_is_prepared_anew_and_the_old_store_goes_once_nobody_reads_it(
    photos: Path, stores: Path
) -> None:
    first = opened(photos)
    old = entries(stores)
    add(photos, 2)
    second = opened(photos)
    assert len(second.split("train")) == 3
    assert old < entries(stores)
    assert first.split("train").texts([1]) == [("photo 1",)]
    del first, second
    gc.collect()
    add(photos, 3)
    opened(photos)
    assert len(entries(stores)) == 1
    assert not old & entries(stores)
    assert len(list(stores.glob("*.prepared"))) == 1


def test_stores_of_other_sources_stay(photos: Path, stores: Path, tmp_path: Path) -> None:
    other = tmp_path / "photos-of-others"
    other.mkdir()
    add(other, 5)
    opened(other)
    gc.collect()
    add(photos, 2)
    opened(photos)
    assert len(entries(stores)) == 2


def test_what_was_rejected_is_told_each_time(photos: Path, stores: Path) -> None:
    (photos / "1.png").write_bytes(b"broken")
    for _ in range(2):
        splits = opened(photos, max_bad=0.5)
        assert [item.item for item in splits.rejected] == ["1.png"]
    with pytest.raises(DataError, match="1 of 2 items"):
        opened(photos, max_bad=0.1)
    with pytest.raises(DataError, match="1 of 2 items"):
        opened(photos, max_bad=0.2)
    assert len(entries(stores)) == 1


def test_a_list_of_rejected_items_under_its_old_name_is_read(photos: Path, stores: Path) -> None:
    (photos / "1.png").write_bytes(b"broken")
    opened(photos, max_bad=0.5)
    (listed,) = stores.glob("*.prepared/rejected.jsonl")
    listed.rename(listed.with_name("quarantine.jsonl"))
    assert [item.item for item in opened(photos, max_bad=0.5).rejected] == ["1.png"]


OPEN = "import sys; from tijepa.data import open_splits; " + (
    "s = open_splits(sys.argv[1], image_size=8, seed=0, max_bad=0.0); print(len(s.split('train')))"
)


def test_two_processes_that_prepare_at_once_do_no_harm(photos: Path, stores: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(photos)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out) == (0, "2\n"), err
    assert len(entries(stores)) == 1
    assert not list(stores.glob(".*"))


def test_what_a_killed_process_left_is_removed(photos: Path, stores: Path) -> None:
    opened(photos)
    (name,) = entries(stores)
    gc.collect()
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    (stores / name).rename(stores / f".{name}.{killed.pid}.tmp")
    opened(photos)
    assert [path.name for path in stores.iterdir() if path.name.startswith(".")] == []


def test_a_store_that_vanished_under_a_reader_is_made_again_without_waiting_for_it(
    photos: Path, stores: Path
) -> None:
    import shutil

    first = opened(photos)
    assert first.uri is not None
    shutil.rmtree(first.uri)
    assert len(opened(photos).split("train")) == 2


def test_the_console_says_that_a_source_is_prepared_and_only_then(
    photos: Path, stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in (f"preparing {photos} …\n", ""):
        console = Console(width=200)
        open_splits(
            str(photos), image_size=8, seed=0, max_bad=0.0, reporter=ConsoleReporter(console)
        )
        assert capsys.readouterr().out == told


def test_a_cache_that_cannot_be_written_is_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIJEPA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set TIJEPA_CACHE to a folder that can be written"):
        opened(photos)


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder().parent == Path(os.environ["TIJEPA_CACHE"])
    monkeypatch.delenv("TIJEPA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/tijepa/stores")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/tijepa/stores")
