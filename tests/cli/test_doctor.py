from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.complaints import below_reading

from tijepa.cli import main


def photo(seed: int) -> bytes:
    points = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(points).resize((64, 48), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images, one of them cut off."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = ["file,words,part"]
    for number in range(10):
        data = photo(number)
        (folder / f"{number}.jpg").write_bytes(data[:-40] if number == 3 else data)
        lines.append(f"{number}.jpg,image {number},{'test' if number > 7 else 'train'}")
    (folder / "captions.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return folder


COLUMNS = ["--image-column", "file", "--caption-column", "words", "--split-column", "part"]


def test_unfit_data_exits_with_one_and_leaves_a_report(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "photos", *COLUMNS]) == 1
    out, err = capsys.readouterr()
    assert err == "reading   photos\n"
    assert "unfit: 1 of 10 items (10.00%) are broken" in out
    given = " ".join(COLUMNS)
    assert f"tijepa prepare photos --out photos.lance {given} --max-bad 0.1\n" in out
    names = sorted(path.name for path in Path("photos.doctor").iterdir())
    assert names == ["doctor.html", "doctor.json", "rejected.jsonl"]
    line = json.loads(Path("photos.doctor/rejected.jsonl").read_text())
    assert (line["item"], line["kind"]) == ("3.jpg", "image-truncated")


def test_a_bound_that_allows_the_broken_items_makes_it_fit(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max-bad", "0.1", "--out", "there", "--threads", "0", "--max-tokens", "2"]
    assert main(["doctor", "photos", *COLUMNS, *options]) == 0
    assert "fit" in capsys.readouterr().out
    facts = json.loads(Path("there/doctor.json").read_text())
    assert facts["verdict"] == "fit"
    assert facts["captions"]["cut"]["captions"] == 9  # two words and [CLS] in 2 tokens


def test_json_is_alone_on_stdout(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "photos", *COLUMNS, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"]["rejected"] == 1
    assert facts == json.loads(Path("photos.doctor/doctor.json").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["photos", "--max-bad", "2"],
        ["photos", "--out", "photos"],
        ["photos", "--reader", "none"],
        [],
    ],
)
def test_what_the_user_can_mend_exits_with_two_and_one_line(
    photos: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    err = below_reading(capsys.readouterr().err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_working_folder_gives_its_name_to_the_report(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert main(["doctor", ".", *COLUMNS]) == 1
    assert (photos / "photos.doctor" / "doctor.json").is_file()
