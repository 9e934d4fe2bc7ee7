from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.complaints import below_reading

from tijepa.cli import main
from tijepa.data.store.source import open_store

pytestmark = pytest.mark.usefixtures("_here")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_becomes_a_store_and_the_next_step_is_told(
    pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", str(pairs_folder), "--out", "pairs.lance"]) == 0
    told = capsys.readouterr().out
    assert f"reading   {pairs_folder}" in told
    assert "written   pairs.lance version 1: 56 items" in told
    assert "tijepa train --data pairs.lance" in told
    assert "splits: train 32, validation 12, test 12" in told
    assert {path.name for path in tmp_path.iterdir()} >= {"pairs.lance", "pairs.prepared"}
    facts = json.loads((tmp_path / "pairs.prepared/doctor.json").read_text())
    assert facts["counts"]["sound"] == 56
    sizes = {name: len(source) for name, source in open_store("pairs.lance").splits.items()}
    assert sizes == {"train": 32, "validation": 12, "test": 12}


def test_the_command_that_sets_redundant_items_aside_is_told_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three items, two of them the same bytes and the same caption."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for number, shade in enumerate((10, 10, 200)):
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": [f"shade {shade}"], "split": "train"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["prepare", "photos", "--out", "photos.lance"]) == 0
    told = capsys.readouterr().out
    assert "written   photos.lance version 1: 3 items" in told
    (command,) = [line for line in told.splitlines() if "--duplicates" in line]
    program, *arguments = shlex.split(command)
    assert program == "tijepa"
    assert main(arguments) == 0
    assert "written   photos-clean.lance version 1: 2 items" in capsys.readouterr().out
    assert len((tmp_path / "photos-clean.prepared/rejected.jsonl").read_text().splitlines()) == 1


def test_the_command_that_is_told_reads_the_source_in_the_same_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two captions columns: without --caption-column the next run would take the other one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (10, 0, 0)).save(folder / f"{number}.png")
    rows = "".join(f"{number}.png,caption,title\n" for number in range(3))
    (folder / "list.csv").write_text(f"image,caption,title\n{rows}")
    chosen = ["--reader", "table", "--image-column", "image", "--caption-column", "title"]
    assert main(["prepare", "photos", "--out", "photos.lance", *chosen]) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if "--duplicates" in line]
    assert " ".join(chosen) in command
    assert main(shlex.split(command)[1:]) == 0
    assert open_store("photos-clean.lance").split("train").captions(0) == ("title",)


def test_a_few_of_each_split_are_taken_to_try(
    pairs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 32, 12 and 12; more by --append, which skips the 15 that stand there."""
    assert main(["prepare", str(pairs_folder), "--out", "few.lance", "--first", "5"]) == 0
    told = capsys.readouterr().out
    assert "only      the first 5 items of each split" in told
    assert "splits: train 5, validation 5, test 5" in told
    assert open_store("few.lance").split("train").item_id(4) == "train-4.png"
    more = ["prepare", str(pairs_folder), "--out", "few.lance", "--append", "--first", "6"]
    assert main(more) == 0
    told = capsys.readouterr().out
    assert "added     few.lance version 2: 3 items; 15 stood there already" in told


def test_the_command_that_is_told_takes_as_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three items of equal image and caption; of the first two one is redundant."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for number in range(3):
        Image.new("RGB", (32, 32), (10, 0, 0)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": ["dark"], "split": "train"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["prepare", "photos", "--out", "photos.lance", "--first", "2"]) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if "--duplicates" in line]
    assert main(shlex.split(command)[1:]) == 0
    assert "written   photos-clean.lance version 1: 1 items" in capsys.readouterr().out


def test_appending_the_same_source_twice_adds_nothing(
    pairs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["prepare", str(pairs_folder), "--out", "pairs.lance"])
    assert main(["prepare", str(pairs_folder), "--out", "pairs.lance", "--append"]) == 0
    assert "nothing added: all 56 items stand in pairs.lance version 1 already" in (
        capsys.readouterr().out
    )


def test_appending_what_is_all_rejected_says_so(
    pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["prepare", str(pairs_folder), "--out", "pairs.lance"])
    (tmp_path / "more").mkdir()
    line = '{"image": null, "captions": ["a"], "split": "train", "id": "train-0.png"}\n'
    (tmp_path / "more/captions.jsonl").write_text(line)
    more = [str(tmp_path / "more"), "--out", "pairs.lance", "--append"]
    assert main(["prepare", *more]) == 2
    capsys.readouterr()
    assert main(["prepare", *more, "--max-bad", "1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "nothing added to pairs.lance version 1: 1 items skipped, 0 stood there already" in told
    assert "pairs.prepared/version-2/doctor.html" in told


def test_what_no_filter_will_find_and_a_mistyped_split_are_told(
    pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store has no column `mood`; a split `trian` may be meant, but hardly is."""
    main(["prepare", str(pairs_folder), "--out", "pairs.lance"])
    (tmp_path / "more").mkdir()
    (tmp_path / "more/captions.jsonl").write_text(
        '{"image": null, "captions": ["a"], "split": "trian", "mood": "glad"}\n'
        '{"image": null, "captions": ["b"], "split": "train", "mood": null}\n'
    )
    capsys.readouterr()
    assert main(["prepare", str(tmp_path / "more"), "--out", "pairs.lance", "--append"]) == 0
    told = capsys.readouterr().out
    assert "column    'mood': 1 value kept, but not searchable: the store has no such" in told
    assert "split 'trian' of 1 item: did you mean 'train'?" in told


def test_appending_adds_new_rows(
    pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pairs"
    shutil.copytree(pairs_folder, folder)
    main(["prepare", str(folder), "--out", "pairs.lance"])
    with (folder / "captions.jsonl").open("a") as file:
        file.write('{"id": "new", "image": null, "captions": ["a text"], "split": "train"}\n')
    assert main(["prepare", str(folder), "--out", "pairs.lance", "--append"]) == 0
    told = capsys.readouterr().out
    assert "added     pairs.lance version 2: 1 items; 56 stood there already" in told
    assert open_store("pairs.lance").split("train").item_id(32) == "new"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "pairs"], "--out pairs does not end with .lance: name it pairs.lance"),
        (["--out", "there.lance"], "there.lance exists already: say --append"),
        (["--out", "none.lance", "--append"], "there is no store at none.lance"),
        (["--out", "x.lance", "--reader", "tabel"], "did you mean 'table'"),
        (["--out", "x.lance", "--image-column", "nope"], "nope"),
        (["--out", "x.lance", "--append", "--duplicates", "skip"], "has no effect with"),
        ([], "Missing option '--out'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    message: str,
    pairs_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there.lance").mkdir()
    assert main(["prepare", str(pairs_folder), *arguments]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "x.lance").exists()


def test_an_unfit_source_is_refused_in_one_line_that_names_the_report(
    pairs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pairs"
    shutil.copytree(pairs_folder, folder)
    (folder / "train-0.png").write_bytes(b"broken")
    assert main(["prepare", str(folder), "--out", "pairs.lance"]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.count("\n") == 1
    assert "1 of 56 items (1.79%) are broken, above the bound of 1.00%; first train-0.png" in err
    assert "pairs.prepared/doctor.html" in err
    assert (tmp_path / "pairs.prepared/doctor.html").exists()
    assert not (tmp_path / "pairs.lance").exists()
    assert main(["prepare", str(folder), "--out", "pairs.lance", "--max-bad", "0.02"]) == 0
