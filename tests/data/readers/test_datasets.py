"""What the `datasets` library saved or downloads."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.columns import Columns, record_of_row
from tijepa.data.records import Record
from tijepa.errors import DataError, MissingExtraError

from . import pairs_on_disk as disk


def test_a_single_dataset_on_disk_has_no_split(tmp_path: Path) -> None:
    data = disk.dataset_dict(disk.pairs())["train"]
    data.save_to_disk(str(tmp_path / "one"))
    reader = open_reader(str(tmp_path / "one"))
    records = list(reader)
    assert len(records) == reader.count() == 8
    assert all(isinstance(record, Record) and record.split is None for record in records)
    assert records[0].id == "row:1"
    assert "splits: none" in reader.describe()
    assert isinstance(records[3], Record)
    assert records[3].extra == {"number": 3}


def test_a_damaged_folder_of_datasets_is_refused_in_one_line(tmp_path: Path) -> None:
    source = Path(disk.saved_by_datasets(tmp_path, disk.pairs()))
    for path in source.rglob("*.arrow"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be loaded by datasets") as caught:
        open_reader(str(source))
    assert "\n" not in str(caught.value)


def test_rows_that_the_library_cannot_read_end_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: Any) -> Any:
        yield {"image": {"bytes": b"x", "path": None}, "captions": ["a"], "number": 1}
        raise pyarrow.ArrowInvalid("offsets out of bounds")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_: disk.dataset_dict(disk.pairs()))
    monkeypatch.setattr(datasets.Dataset, "__iter__", broken)
    found = list(open_reader("hub:owner/name"))
    assert [type(item) for item in found] == [Record, Rejected] * 3
    problem = found[1]
    assert isinstance(problem, Rejected)
    assert problem.item == "train:2"
    assert "those after it cannot be read: offsets out of bounds" in problem.reason


def test_a_hub_dataset_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*names: Any) -> Any:
        asked.append(names)
        return disk.dataset_dict(disk.pairs())

    monkeypatch.setattr(datasets, "load_dataset", load)
    reader = open_reader("hub:owner/name:small")
    items = disk.pairs()
    got = {
        (record.image, record.captions, record.split)
        for record in reader
        if isinstance(record, Record)
    }
    assert got == {(pair.image, pair.captions, pair.split) for pair in items}
    assert open_reader("hf://datasets/owner/name").fingerprint() == reader.fingerprint()
    assert asked == [("owner/name", "small"), ("owner/name", None)]
    assert reader.count() == 12


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("Couldn't reach 'owner/name'\non the Hub"), "Couldn't reach 'owner/name'"),
        (FileNotFoundError(), "FileNotFoundError"),
        (ValueError("Config name is missing."), "Config name is missing."),
    ],
)
def test_a_hub_that_gives_nothing_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as caught:
        open_reader("hub:owner/name")
    assert str(caught.value) == (
        f"cannot load hub:owner/name from the hub: {reason}; check the name and the network, or "
        "save it with save_to_disk elsewhere and name that folder"
    )


@pytest.mark.parametrize("source", ["hub:", "hub:a/b/c", "hub:a b", "hf://datasets/../x/y"])
def test_a_name_that_no_dataset_has_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="names no data set of the hub"):
        open_reader(source)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"tijepa\[data\]"):
        open_reader("hub:owner/name")


def test_an_opened_image_is_kept_without_loss() -> None:
    image = Image.new("RGB", (5, 4), (9, 8, 7))
    columns = Columns(("image",), ("caption",), ())
    record = record_of_row({"image": image}, columns, name="n", split=None, root=None)
    assert record.image is not None
    with Image.open(io.BytesIO(record.image)) as again:
        assert again.format == "PNG"
        assert again.tobytes() == image.tobytes()
