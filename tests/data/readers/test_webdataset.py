from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.webdataset import expand_braces, index_shard
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(source: Path | str, **options: Any) -> tuple[list[Record], list[Rejected]]:
    found = list(open_reader(str(source), options=ReaderOptions(**options)))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_members_are_grouped_by_their_name_up_to_the_first_dot(tmp_path: Path) -> None:
    """Also when the members of one sample lie apart, and in folders."""
    tar(
        tmp_path / "a.tar",
        ("d.x/1.jpg", b"one"),
        ("2.thumb.PNG", b"two"),
        ("d.x/1.txt", b"first\n"),
        ("./3.webp", b"three"),
        ("2.json", b'{"caption": "second", "label": 5}'),
        ("3.cls", b"7\n"),
        ("4.txt", b"only words"),
        ("._1.jpg", b"from a Mac"),
        ("README", b""),
    )
    records, rejected = read(tmp_path / "a.tar")
    assert [(r.id, r.image, r.captions, r.extra) for r in records] == [
        ("a/d.x/1", b"one", ("first",), {}),
        ("a/2", b"two", ("second",), {"label": 5}),
        ("a/3", b"three", (), {"cls": "7"}),
        ("a/4", None, ("only words",), {}),
    ]
    assert records[0].reference == "a.tar:d.x/1"
    assert rejected == []


def test_pickles_are_neither_read_nor_forgotten(tmp_path: Path) -> None:
    members = [(f"{n}.{kind}", b"cos\nsystem\n") for n in range(3) for kind in ("jpg", "pyd")]
    records, rejected = read(tar(tmp_path / "a.tar", *members, ("0.pkl", b"x")))
    assert len(records) == 3
    assert rejected == [
        Rejected("*.pkl", "1 members of this kind are not read", samples=0),
        Rejected("*.pyd", "3 members of this kind are not read", samples=0),
    ]


def test_a_blank_text_is_no_caption(tmp_path: Path) -> None:
    """img2dataset writes an empty text where the source had no caption."""
    source = tar(
        tmp_path / "a.tar", ("1.jpg", b"x"), ("1.txt", b""), ("1.json", b'{"caption":null}')
    )
    (record,), _ = read(source)
    assert record.captions == ()


def test_a_caption_column_can_be_named(tmp_path: Path) -> None:
    side = json.dumps({"caption": "short", "long": "a long one"}).encode()
    members = (("1.jpg", b"x"), ("1.txt", b"short"), ("1.json", side), ("2.jpg", b"y"))
    (record,), (problem,) = read(tar(tmp_path / "a.tar", *members), caption_column="long")
    assert record.captions == ("a long one",)
    assert record.extra == {"caption": "short"}
    assert problem == Rejected("a/2", "json: there is no 'long' for the caption")


def test_samples_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    _, rejected = read(
        tar(
            tmp_path / "a.tar",
            ("1.jpg", b"x"),
            ("1.json", b"{"),
            ("2.json", b'{"label": 1}'),
            ("3.jpg", b"x"),
            ("3.jpg", b"y"),
        )
    )
    assert [(problem.item, problem.reason.split(":")[0]) for problem in rejected] == [
        ("a/1", "json"),
        ("a/2", "neither an image nor a caption"),
        ("a/3.jpg", "stands again at byte 4,096 of the shard"),
    ]


def test_an_image_beyond_the_bound_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tijepa.data.readers.files.MAX_FILE_BYTES", 1000)
    source = tar(tmp_path / "a.tar", ("1.jpg", b"x" * 1001), ("2.jpg", b"x" * 1000))
    records, (problem,) = read(source)
    assert [record.id for record in records] == ["a/2"]
    assert problem.reason == "1,001 bytes exceed the bound of 1,000"


@pytest.mark.parametrize(
    ("kept", "whole", "reason"),
    [
        (1222, 0, "shard is truncated: .jpg at byte 512 has 710 of 2,000 bytes"),
        (7680, 3, "truncated at byte 7,680: the mark of its end is missing"),
        (7780, 3, "damaged at byte 7,680 of 7,780: what follows is no header"),
    ],
)
def test_a_truncated_shard_names_the_place_and_the_rest_goes_on(
    tmp_path: Path, kept: int, whole: int, reason: str
) -> None:
    """A member of 2,000 bytes takes 512 for its header and 2,048 for its content: 2,560."""
    path = tar(tmp_path / "0.tar", *((f"{n}.jpg", bytes([n]) * 2000) for n in range(9)))
    path.write_bytes(path.read_bytes()[:kept])
    tar(tmp_path / "1.tar", ("x.jpg", b"fine"))
    records, rejected = read(tmp_path)
    assert [record.id for record in records] == [*(f"0/{n}" for n in range(whole)), "1/x"]
    assert reason in {problem.reason for problem in rejected}
    assert all(problem.item in ("0.tar", f"0/{whole}") for problem in rejected)


def test_a_shard_joined_from_two_is_not_read_by_half_in_silence(tmp_path: Path) -> None:
    one, two = tar(tmp_path / "a.tar", ("1.jpg", b"x")), tar(tmp_path / "b.tar", ("2.jpg", b"y"))
    one.write_bytes(one.read_bytes() + two.read_bytes())
    (record,), (problem,) = read(one)
    assert record.id == "a/1"
    assert "more follows: was it joined from several?" in problem.reason


def test_what_is_no_tar_is_rejected_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a tar" * 200)
    (tmp_path / "b.tar").write_bytes(b"")
    records, rejected = read(tmp_path)
    assert records == []
    assert [problem.item for problem in rejected] == ["a.tar", "b.tar"]


def test_missing_shards_of_a_pattern_are_told(tmp_path: Path) -> None:
    tar(tmp_path / "s-01.tar", ("1.jpg", b"x"))
    records, rejected = read(f"{tmp_path}/s-{{00..02}}.tar")
    assert [record.id for record in records] == ["s-01/1"]
    assert rejected == [
        Rejected("s-00.tar", "file is missing: by the others it has about 1 samples"),
        Rejected("s-02.tar", "file is missing: by the others it has about 1 samples"),
    ]
    with pytest.raises(DataError, match="none of the 3 shards"):
        open_reader(f"{tmp_path}/t-{{00..02}}.tar")


def test_splits_come_from_json_else_from_the_folder_or_shard(tmp_path: Path) -> None:
    tar(tmp_path / "val/0.tar", ("1.jpg", b"x"), ("2.jpg", b"x"), ("2.json", b'{"split":"test"}'))
    tar(tmp_path / "train-0.tar", ("1.jpg", b"x"))
    assert {record.id: record.split for record in read(tmp_path)[0]} == {
        "train-0/1": "train",
        "val/0/1": "validation",
        "val/0/2": "test",
    }


def test_braces_mean_ranges_and_choices() -> None:
    assert expand_braces("a{08..10}.tar") == ["a08.tar", "a09.tar", "a10.tar"]
    assert expand_braces("{x,y}/{0..1}") == ["x/0", "x/1", "y/0", "y/1"]
    with pytest.raises(DataError, match="means more than 1,000,000 shards"):
        expand_braces("{0..9999999999}.tar")
    with pytest.raises(DataError, match="means more than 1,000,000 shards"):
        expand_braces("{0..9999}{0..9999}.tar")
    with pytest.raises(DataError, match="counts down"):
        expand_braces("{3..1}.tar")


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_damage_anywhere_never_raises_and_never_hangs(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of the headers are overwritten; 0x80 and 0xff make sizes binary, also negative."""
    path = tar(
        tmp_path_factory.mktemp("tar") / "a.tar",
        ("1.jpg", jpeg(1)),
        ("1.txt", b"a"),
        ("2.jpg", jpeg(2)),
    )
    content = bytearray(path.read_bytes()[:6000])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from([0, 0x80, 0xFF, 0x30, 0x37, 0x78, 0x4C]))
    path.write_bytes(bytes(content))
    for item in open_reader(str(path)):
        assert isinstance(item, Record) or item.reason


@pytest.mark.timeout(20)
def test_a_header_with_a_negative_size_does_not_lead_in_circles(tmp_path: Path) -> None:
    """Base-256 numbers may be negative: a size of -1,536 leads back to the header before."""
    path = tar(tmp_path / "a.tar", ("1.jpg", b"x"), ("2.jpg", b"y"))
    content = bytearray(path.read_bytes())
    header = content[1024:1536]
    header[124:136] = (256**12 - 1536).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    path.write_bytes(bytes(content))
    shard = index_shard(str(path))
    assert list(shard.samples) == ["1"]
    assert shard.damage is not None
