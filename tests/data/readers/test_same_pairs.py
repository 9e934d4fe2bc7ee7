"""The same pairs in every layout are the same records, whichever reader takes them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import Record

from . import pairs_on_disk as disk


def records_of(source: str) -> list[Record]:
    found = list(open_reader(source))
    assert [item for item in found if isinstance(item, Rejected)] == []
    return [item for item in found if isinstance(item, Record)]


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_every_layout_gives_the_same_pairs(tmp_path: Path, layout: str) -> None:
    items = disk.pairs()
    source = disk.WRITERS[layout](tmp_path, items)
    reader = open_reader(source)
    assert reader.name == layout.partition("-")[0]
    records = records_of(source)
    got = {(record.image, record.captions, record.split) for record in records}
    assert got == {(pair.image, pair.captions, pair.split) for pair in items}
    assert len(records) == len(items)
    assert len({record.id for record in records}) == len(items)
    assert reader.count() in (None, len(items))
    assert "\n" not in reader.describe()


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_reading_again_gives_the_same_records_in_the_same_order(
    tmp_path: Path, layout: str
) -> None:
    source = disk.WRITERS[layout](tmp_path, disk.pairs())
    reader = open_reader(source)
    assert list(reader) == list(reader) == list(open_reader(source))


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_what_a_record_keeps_besides_can_be_written_as_json(tmp_path: Path, layout: str) -> None:
    for record in records_of(disk.WRITERS[layout](tmp_path, disk.pairs())):
        assert json.loads(json.dumps(record.extra, allow_nan=False)) == record.extra


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_the_fingerprint_changes_with_each_file_that_is_read_and_with_no_other(
    tmp_path: Path, layout: str
) -> None:
    source = disk.WRITERS[layout](tmp_path, disk.pairs())
    (tmp_path / "unrelated.log").write_text("x")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    last = open_reader(source).fingerprint()
    for number, path in enumerate(files):
        os.utime(path, ns=(0, 10**9 * (number + 1)))
        now = open_reader(source).fingerprint()
        assert (now == last) == (path.name == "unrelated.log"), path
        last = now


def test_img2dataset_shards_are_read_and_the_files_beside_them_ignored(tmp_path: Path) -> None:
    """Text and JSON hold the same caption: it counts once. The folders name the splits."""
    items = disk.pairs()
    records = records_of(disk.img2dataset(tmp_path, items))
    got = {(record.image, record.captions, record.split) for record in records}
    assert got == {(pair.image, pair.captions[:1], pair.split) for pair in items}
    assert records[0].extra == {"url": "u", "status": "success"}
    assert open_reader(str(tmp_path)).name == "webdataset"


def test_flickr8k_opens_without_options(real_data: Path) -> None:
    records = records_of(str(real_data / "data/flickr8k"))
    assert Counter(record.split for record in records) == {
        "train": 6091,
        "validation": 1000,
        "test": 1000,
    }
    assert {len(record.captions) for record in records} == {5}


def test_mvsa_single_opens_without_options(real_data: Path) -> None:
    records = records_of(str(real_data / "data/mvsa_single"))
    assert Counter(record.split for record in records) == {
        "train": 4000,
        "test": 511,
        "unlabelled": 358,
    }
    assert {record.extra["label"] for record in records} == {
        "positive",
        "neutral",
        "negative",
        None,
    }
