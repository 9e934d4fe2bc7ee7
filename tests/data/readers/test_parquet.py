from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import ReaderOptions, Record
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def read(source: Path, **options: Any) -> tuple[list[Record], list[Rejected]]:
    found = list(open_reader(str(source), options=ReaderOptions(**options)))
    return (
        [item for item in found if isinstance(item, Record)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_bytes_and_a_string_are_a_pair(tmp_path: Path) -> None:
    rows = [{"jpg": jpeg(n), "txt": f"text {n}", "id": f"n{n}"} for n in range(3)]
    records, rejected = read(write(tmp_path / "pairs.parquet", rows))
    assert [(r.id, r.reference, r.image, r.captions, r.split) for r in records] == [
        (f"n{n}", f"pairs:{n + 1}", jpeg(n), (f"text {n}",), None) for n in range(3)
    ]
    assert rejected == []


def test_cells_without_value_are_no_image_and_no_caption(tmp_path: Path) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", struct), ("caption", pa.list_(pa.string()))])
    rows = [
        {"image": None, "caption": ["a"]},
        {"image": {"bytes": None, "path": None}, "caption": ["a", None]},
        {"image": {"bytes": b"x", "path": "gone.jpg"}, "caption": None},
        {"image": None, "caption": None},
        {"image": {"bytes": None, "path": "gone.jpg"}, "caption": ["a"]},
        {"image": {"bytes": None, "path": "../gone.jpg"}, "caption": ["a"]},
    ]
    records, rejected = read(write(tmp_path / "a.parquet", rows, schema))
    assert [(r.image, r.captions) for r in records] == [
        (None, ("a",)),
        (None, ("a", None)),
        (b"x", ()),
    ]
    assert [(problem.item, problem.reason.split(" the")[0]) for problem in rejected] == [
        ("a:4", "neither an image nor a caption"),
        ("a:5", "file is missing"),
        ("a:6", "image path leads out of"),
    ]


def test_further_columns_become_what_json_can_hold(tmp_path: Path) -> None:
    row = {
        "image": b"x",
        "caption": "a",
        "score": float("nan"),
        "raw": b"\x00\x01",
        "day": datetime.date(2020, 1, 2),
        "price": decimal.Decimal("1.50"),
        "box": {"xs": [1.5, float("inf")]},
    }
    (record,), _ = read(write(tmp_path / "a.parquet", [row]))
    assert record.extra == {
        "score": None,
        "raw": "AAE=",
        "day": "2020-01-02",
        "price": "1.50",
        "box": {"xs": [1.5, None]},
    }


def test_an_image_that_is_a_number_is_rejected(tmp_path: Path) -> None:
    _, (problem,) = read(write(tmp_path / "a.parquet", [{"image": 5, "caption": "a"}]))
    assert problem.reason == "image is int, not bytes, a path or an image"


def test_a_damaged_file_among_others_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", [{"image": b"x", "caption": "a"}])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    records, (problem,) = read(tmp_path)
    assert len(records) == 1
    assert problem.item == "a.parquet"
    assert problem.reason.startswith("cannot be read: ")
    assert "\n" not in problem.reason


def test_damaged_pages_end_a_file_and_not_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"image": jpeg(n), "caption": "a"} for n in range(100)])
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(bytes(content))
    _, rejected = read(path)
    assert [problem.samples for problem in rejected] == [100]
    assert rejected[-1].reason.startswith("rows 1 to 100 cannot be read: ")


def test_a_file_without_usable_columns_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"url": "u", "caption": "a"}])
    with pytest.raises(DataError, match="no recognised image column; columns: url, caption"):
        open_reader(str(path))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="is no parquet file"):
        open_reader(str(tmp_path / "b.parquet"))


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"pic": b"x", "words": ["a", "b"], "part": "dev"}])
    (record,), _ = read(path, image_column="pic", caption_column="words", split_column="part")
    assert (record.captions, record.split) == (("a", "b"), "validation")
