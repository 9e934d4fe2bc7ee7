from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from tijepa.data.records import Reader, Record
from tijepa.data.store import source as source_module
from tijepa.data.store.prepare import append_store, write_store
from tijepa.data.store.source import open_store
from tijepa.errors import DataError

MakeReader = Callable[[list[Any]], Reader]
MakePair = Callable[..., Record]


@pytest.fixture
def uri(make_reader: MakeReader, make_pair: MakePair, tmp_path: Path) -> str:
    records = [make_pair(i, "train" if i % 3 else "test") for i in range(12)]
    return write_store(make_reader(records), str(tmp_path / "pairs.lance")).uri


def test_an_open_source_stays_at_its_version(
    make_reader: MakeReader, make_pair: MakePair, uri: str
) -> None:
    train = open_store(uri).split("train")
    append_store(make_reader([make_pair(i, "train") for i in range(20)]), uri)
    assert (len(train), train.item_id(7)) == (8, "i11")
    assert len(open_store(uri).split("train")) == 8 + 8
    assert len(open_store(uri, 1).split("train")) == 8


def test_a_source_that_is_sent_elsewhere_opens_the_same_version(
    make_reader: MakeReader, make_pair: MakePair, uri: str
) -> None:
    test = open_store(uri).split("test")
    copy = pickle.loads(pickle.dumps(test))
    append_store(make_reader([make_pair(99, "test")]), uri)
    assert [copy.item_id(index) for index in range(4)] == ["i0", "i3", "i6", "i9"]
    assert len(pickle.dumps(test)) < 2000  # the rows and where they are, not the data


def test_a_forked_process_is_told_instead_of_hanging(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = open_store(uri).split("train")
    monkeypatch.setattr(source_module.os, "getpid", lambda: 1)
    with pytest.raises(AssertionError, match="spawn them"):
        train.read([0])


def test_threads_read_at_once(uri: str) -> None:
    train = open_store(uri).split("train")
    expected = [train.item_id(index) for index in range(8)]
    failures: list[object] = []

    def work() -> None:
        for _ in range(20):
            if [train.item_id(index) for index in range(8)] != expected:
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_one_batch_is_one_access(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = open_store(uri).split("train")
    taken: list[list[str]] = []
    take = source_module.Store.take

    def counted(self: Any, rows: Any, columns: list[str]) -> pa.Table:
        taken.append(columns)
        return take(self, rows, columns)

    monkeypatch.setattr(source_module.Store, "take", counted)
    train.read(range(8))
    train.texts(range(8))
    assert taken == [["pair"], ["captions"]]


def test_opening_reads_no_image_and_no_caption(make_reader: MakeReader, tmp_path: Path) -> None:
    """3,000 texts of 200 letters: 600 kB, and at most 64 kB of it are read."""
    import random

    letters = random.Random(0)
    texts = ["".join(letters.choices("abcdefghij", k=200)) for _ in range(3000)]
    records = [Record(f"{i}", "", None, (text,), "train") for i, text in enumerate(texts)]
    uri = write_store(make_reader(records), str(tmp_path / "texts.lance"), max_bad=1.0).uri
    train = open_store(uri).split("train")
    assert train.store.dataset.io_stats_snapshot().read_bytes < 65_536  # type: ignore[attr-defined]
    assert len(train) == 3000


def test_what_is_no_store_is_one_line(uri: str, tmp_path: Path) -> None:
    foreign = str(tmp_path / "foreign.lance")
    lance.write_dataset(pa.table({"a": [1]}), foreign)
    for place, message in (
        (foreign, "is a Lance dataset that tijepa prepare did not write"),
        (str(tmp_path / "none.lance"), "there is no store at"),
    ):
        with pytest.raises(DataError, match=message) as error:
            open_store(place)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"no longer has version 7, .* \(its latest is 1\)"):
        open_store(uri, 7)


def test_a_store_that_is_damaged_while_it_is_read_is_one_line(uri: str) -> None:
    train = open_store(uri).split("train")
    for file in (Path(uri) / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        DataError, match=r"cannot be read: .*; restore it or prepare it anew"
    ) as error:
        train.read([0])
    assert "\n" not in str(error.value)


def test_an_empty_read_is_empty(uri: str) -> None:
    train = open_store(uri).split("train")
    assert train.read([]) == []
    assert train.texts([]) == []
