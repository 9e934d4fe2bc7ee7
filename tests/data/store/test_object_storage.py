from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tijepa.data import open_splits
from tijepa.data.records import Reader, Record
from tijepa.data.store.prepare import append_store, diagnosis_folder, write_store
from tijepa.data.store.source import open_store
from tijepa.errors import DataError

MakeReader = Callable[[list[Any]], Reader]
MakePair = Callable[..., Record]

URI = "s3://bucket/data/pairs.lance"

_spec = importlib.util.spec_from_file_location(
    "s3_server", Path(__file__).with_name("s3_server.py")
)
assert _spec is not None
assert _spec.loader is not None
s3_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(s3_server)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket on this machine that the environment leads to."""
    with s3_server.serving() as (bucket, endpoint):
        for name, value in {
            "AWS_ENDPOINT": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield bucket


def test_a_store_on_object_storage_is_written_read_and_appended_to(
    bucket: Any, make_reader: MakeReader, make_pair: MakePair, tmp_path: Path
) -> None:
    """A text of 16 MB, 8 MB of them random, makes Lance upload in several parts."""
    long = os.urandom(8_000_000).hex()
    records = [make_pair(i, "train", note=long if i == 0 else "") for i in range(5)]
    assert write_store(make_reader(records), URI).version == 1
    assert any(request.startswith("POST data/pairs.lance/data/") for request in bucket.requests)
    assert (tmp_path / "pairs.prepared/doctor.html").exists()
    assert diagnosis_folder(URI) == Path("pairs.prepared")
    splits = open_splits(URI, image_size=16, seed=0, max_bad=0.0)
    assert (splits.uri, splits.version) == (URI, 1)
    train: Any = splits.split("train")
    assert [item.captions[0] for item in train.read([4, 0])] == ["caption 4", "caption 0"]
    assert train.extra("note", [0]) == [long]
    done = append_store(make_reader([make_pair(i) for i in range(6)]), URI)
    assert (done.version, done.skipped) == (2, 5)
    assert len(open_store(URI, 1).split("train")) == 5


def test_an_unfit_or_interrupted_source_commits_nothing(
    bucket: Any, make_reader: MakeReader, make_pair: MakePair
) -> None:
    bad = Record("bad", "", b"no image", (), "train")
    with pytest.raises(DataError, match="are broken"):
        write_store(make_reader([make_pair(0), bad]), URI)
    with pytest.raises(KeyboardInterrupt):
        write_store(make_reader([make_pair(0), KeyboardInterrupt()]), URI)
    assert not [key for key in bucket.objects if "_versions" in key]
    with pytest.raises(DataError, match=f"there is no store at {URI}"):
        open_store(URI)


def test_a_store_that_is_there_is_not_replaced(
    bucket: Any, make_reader: MakeReader, make_pair: MakePair
) -> None:
    write_store(make_reader([make_pair(0)]), URI)
    objects = dict(bucket.objects)
    with pytest.raises(DataError, match="exists already"):
        write_store(make_reader([make_pair(1)]), URI)
    assert bucket.objects == objects
