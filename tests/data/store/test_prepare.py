from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.complaints import below_reading

from tijepa.data.pairs import PairSplits, Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import Reader, Record
from tijepa.data.store import writer as rows_module
from tijepa.data.store.prepare import append_store, diagnosis_folder, write_store
from tijepa.data.store.source import StoreSource, open_store
from tijepa.errors import DataError

MakeReader = Callable[[list[Any]], Reader]
MakePair = Callable[..., Record]


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "pairs.lance")


def names(splits: PairSplits) -> dict[str, list[str]]:
    return {
        split: [source.item_id(index) for index in range(len(source))]
        for split, source in splits.splits.items()
    }


def test_everything_of_a_record_comes_back(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    records = [
        make_pair(0, "train", label="cat", width=500),
        Record("t", "row t", None, ("a text alone",), "test"),
        Record("p", "row p", make_pair(7).image, (), "extra", {"label": "dog", "late": [1]}),
    ]
    done = write_store(make_reader(records), out)
    assert (done.version, done.added) == (1, {"train": 1, "test": 1, "extra": 1})
    splits = open_store(out)
    assert names(splits) == {"train": ["i0"], "test": ["t"], "extra": ["p"]}
    train, test, extra = splits.splits.values()
    (pair,) = train.read([0])
    assert pair.image is not None
    assert pair.image.pixels(24).shape == (24, 24, 3)
    assert pair.captions == ("caption 0", "again 0")
    assert test.read([0])[0].image is None
    assert extra.texts([0]) == [()]
    assert isinstance(extra, StoreSource)
    assert extra.extra("label", [0]) == ["dog"]
    assert extra.extra("late", [0]) == [[1]]
    assert extra.extra("width", [0]) == [None]
    again = list(open_reader(out))
    assert again == records


def test_rows_come_in_the_order_asked_for_and_as_often(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    write_store(make_reader([make_pair(i, "ab"[i % 2]) for i in range(9)]), out)
    b = open_store(out).split("b")
    assert [item.captions[0][8:] for item in b.read([3, 0, 3])] == ["7", "1", "7"]
    assert b.texts([2, 1]) == [("caption 5", "again 5"), ("caption 3", "again 3")]
    with pytest.raises(IndexError):
        b.read([4])


@given(
    sizes=st.lists(st.sampled_from([None, "train", "test"]), min_size=1, max_size=30),
    at_once=st.integers(1, 7),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_batches_of_any_size_make_the_same_store(
    sizes: list[str | None],
    at_once: int,
    make_reader: MakeReader,
    make_pair: MakePair,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [Record(f"i{i}", "", None, (f"text {i}",), split) for i, split in enumerate(sizes)]
    folder = tmp_path_factory.mktemp("stores")
    found = []
    for most in (at_once, 2048):
        monkeypatch.setattr(rows_module, "MOST_ROWS", most)
        write_store(make_reader(records), str(folder / f"{most}.lance"), max_bad=1.0)
        found.append(names(open_store(str(folder / f"{most}.lance"))))
    assert found[0] == found[1]
    named = [record for record in records if record.split]
    assert sum(map(len, found[0].values())) == len(named or records)


def test_a_split_named_late_sets_the_items_before_it_aside(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    reader: Any = make_reader([make_pair(0, None), make_pair(1, "train"), make_pair(2, None)])
    done = write_store(reader, out, max_bad=0.7)
    assert reader.readings == 2
    assert names(open_store(out)) == {"train": ["i1"]}
    assert done.rejected == 2
    rejected_path = (diagnosis_folder(out) / "rejected.jsonl").read_text()
    assert rejected_path.count("split is None, while other rows name one") == 2


def test_duplicates_are_kept_and_reported_unless_they_are_rejected(
    make_reader: MakeReader, make_pair: MakePair, tmp_path: Path
) -> None:
    """Item 1 again in train is redundant; item 2, in train and test, stays in test."""
    copy = Record("copy", "", make_pair(1).image, make_pair(1).captions, "train")
    leak = Record("leak", "", make_pair(2).image, ("other words",), "test")
    records = [make_pair(0), make_pair(1), copy, make_pair(2), leak]
    kept = write_store(make_reader(records), str(tmp_path / "kept.lance"))
    assert kept.added == {"train": 4, "test": 1}
    assert kept.report.facts["redundant_items"] == 2
    reader: Any = make_reader(records)
    clean = write_store(reader, str(tmp_path / "clean.lance"), duplicates="skip")
    assert reader.readings == 2
    assert names(open_store(clean.uri)) == {"train": ["i0", "i1"], "test": ["leak"]}
    assert clean.rejected == 2
    assert clean.report.facts["redundant_items"] == 0


def test_an_unfit_source_leaves_a_report_and_no_store(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    records = [make_pair(0), Record("bad", "row 1", b"no image", ("a",), "train")]
    with pytest.raises(
        DataError, match=r"1 of 2 items \(50.00%\) are broken.* first bad: "
    ) as error:
        write_store(make_reader(records), out, max_bad=0.4)
    assert "\n" not in str(error.value)
    assert str(diagnosis_folder(out) / "doctor.html") in str(error.value)
    assert (diagnosis_folder(out) / "doctor.html").exists()
    assert [path.name for path in Path(out).parent.iterdir()] == ["pairs.prepared"]


def test_without_a_usable_item_there_is_no_store(make_reader: MakeReader, out: str) -> None:
    with pytest.raises(DataError, match="has no usable item of 1; first line 3: torn"):
        write_store(make_reader([Rejected("line 3", "torn")]), out, max_bad=1.0)
    assert not Path(out).exists()


def test_what_stands_at_the_place_is_not_touched(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    Path(out).mkdir(parents=True)
    with pytest.raises(DataError, match="exists already: say `append=True`"):
        write_store(make_reader([make_pair(0)]), out)
    assert list(Path(out).iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("reader broke")])
def test_an_interrupted_prepare_leaves_nothing_and_an_append_the_old_version(
    error: BaseException,
    make_reader: MakeReader,
    make_pair: MakePair,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "MOST_ROWS", 2)
    records = [make_pair(i) for i in range(7)]
    with pytest.raises(type(error)):
        write_store(make_reader([*records, error]), out)
    assert list(Path(out).parent.iterdir()) == []
    write_store(make_reader(records[:3]), out)
    with pytest.raises(type(error)):
        append_store(make_reader([*records, error]), out)
    assert open_store(out).version == 1
    assert names(open_store(out)) == {"train": ["i0", "i1", "i2"]}


FULL = """
    import resource, signal, sys
    from tijepa.cli import main
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    sys.exit(main(["prepare", sys.argv[1], "--out", sys.argv[2]]))
"""


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """No file may grow beyond 400 kB, and the images take 3 × 270 kB."""
    from PIL import Image

    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        image = Image.frombytes("RGB", (300, 300), os.urandom(270_000))
        image.save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"noise {number}")
    out = tmp_path / "out.lance"
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done.stderr
    assert below_reading(done.stderr).count("\n") == 1
    assert f"cannot write {out}: file too large; nothing of it was kept" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name not in ("source", "out.prepared")]


INTERRUPTED = """
    import os, signal, sys, threading
    from tijepa.cli import main
    from tijepa.data.store import ingest
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored under a shell's `&`
    add = ingest.Diagnosis.add
    def slowly(self, item):
        add(self, item)
        os.kill(os.getpid(), signal.SIGINT)
    ingest.Diagnosis.add = slowly
    sys.exit(main(["prepare", sys.argv[1], "--out", sys.argv[2], *sys.argv[3:]]))
"""


def test_ctrl_c_says_that_nothing_was_kept(pairs_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lance"
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(pairs_folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 130
    assert "stopped: nothing was kept" in done.stderr
    assert not out.exists()


def test_appending_adds_what_is_lacking_as_a_new_version_and_only_once(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    write_store(make_reader([make_pair(i) for i in range(3)]), out)
    more = make_reader([make_pair(i, "test", label=i) for i in range(2, 5)])
    added = append_store(more, out)
    assert (added.version, added.added, added.skipped) == (2, {"test": 2}, 1)
    splits = open_store(out)
    assert names(splits) == {"train": ["i0", "i1", "i2"], "test": ["i3", "i4"]}
    test = splits.split("test")
    assert isinstance(test, StoreSource)
    assert test.extra("label", [1, 0]) == [4, 3]  # a column that the first rows did not have
    again = append_store(more, out)
    assert (again.version, again.added, again.skipped) == (2, {}, 3)
    assert names(open_store(out, 1)) == {"train": ["i0", "i1", "i2"]}


def test_another_item_of_a_known_id_is_rejected_and_not_taken_for_the_known_one(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    """A camera gives its names again: i1 with the image of i7, i2 with a new caption."""
    write_store(make_reader([make_pair(i) for i in range(4)]), out)
    renamed = replace(make_pair(7), id="i1", captions=make_pair(1).captions)
    corrected = replace(make_pair(2), captions=("corrected",))
    more = [make_pair(0), renamed, corrected, make_pair(9)]
    added = append_store(make_reader(more), out, max_bad=1.0)
    assert (added.added, added.skipped, added.rejected) == ({"train": 1}, 1, 2)
    assert names(open_store(out)) == {"train": ["i0", "i1", "i2", "i3", "i9"]}
    listed = (added.report.folder / "rejected.jsonl").read_text()
    assert listed.count("the store holds another image or other captions under this id") == 2
    with pytest.raises(DataError, match="under this id: rename it"):
        append_store(make_reader(more), out)


def test_appending_finds_duplicates_of_what_the_store_holds(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    """New are a copy of item 0, a leak of item 1 into test, and item 7, which is of its own.

    Items 2 and 3 of the store are copies of each other, which an append does not tell again.
    """
    old = Record("i3", "", make_pair(2).image, make_pair(2).captions, "train")
    text = Record("t", "", None, ("words alone",), "train")
    write_store(make_reader([*map(make_pair, range(3)), old, text]), out)
    again = Record("again", "", make_pair(0).image, make_pair(0).captions, "train")
    leak = Record("leak", "", make_pair(1).image, ("other words",), "test")
    said = Record("u", "", None, ("words alone",), "train")
    done = append_store(make_reader([again, leak, said, make_pair(7)]), out, source="more")
    facts = done.report.facts
    listed = {kind: found["listed"] for kind, found in facts["duplicates"].items()}
    assert listed["duplicate-item"] == [["i0", "again"], ["t", "u"]]
    assert listed["image-in-two-splits"] == [["i1", "leak"]]
    assert listed["duplicate-image"] == []
    assert facts["redundant_items"] == 3
    assert facts["counts"]["sound"] == 4
    (step,) = facts["commands"]
    assert step["command"] == f"tijepa prepare {out} --out pairs-clean.lance --duplicates skip"


def test_appending_finds_look_alikes_of_what_the_store_holds(
    make_reader: MakeReader, out: str
) -> None:
    """One photo at 96 and at 48 pixels: two files of one look."""
    photo = Image.effect_noise((8, 8), 100).resize((96, 96)).convert("RGB")
    records = []
    for side in (96, 48):
        buffer = io.BytesIO()
        photo.resize((side, side)).save(buffer, "PNG")
        records.append(Record(str(side), "", buffer.getvalue(), (f"{side}",), "train"))
    write_store(make_reader(records[:1]), out)
    found = append_store(make_reader(records), out).report.facts["duplicates"]
    assert found["near-duplicate"]["listed"] == [["96", "48"]]


def test_appending_keeps_to_the_way_the_store_was_split(
    make_reader: MakeReader, make_pair: MakePair, tmp_path: Path
) -> None:
    named, hashed = str(tmp_path / "named.lance"), str(tmp_path / "hashed.lance")
    write_store(make_reader([make_pair(0, "train")]), named)
    write_store(make_reader([make_pair(0, None)]), hashed)
    more = [make_pair(i, None) for i in range(1, 60)]
    with pytest.raises(DataError, match="split is None, while other rows name one"):
        append_store(make_reader(more), named)
    append_store(make_reader(more), hashed)
    assert set(open_store(hashed).splits) == {"train", "validation", "test"}


def test_ids_that_utf_8_cannot_hold_are_written_as_escapes_and_known_again(
    make_reader: MakeReader, make_pair: MakePair, out: str
) -> None:
    record = Record("caf\udce9.png", "caf\udce9.png", make_pair(0).image, ("a",), "train")
    write_store(make_reader([record]), out)
    assert names(open_store(out)) == {"train": ["caf\\udce9.png"]}
    assert append_store(make_reader([record]), out).skipped == 1
