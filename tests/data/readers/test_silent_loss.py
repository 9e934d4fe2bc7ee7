"""Inputs that were damaged or dropped under the verdict "fit"."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from tijepa.data.images import decode_image
from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.readers.files import captions_of
from tijepa.data.records import ReaderOptions, Record
from tijepa.data.validation.diagnosis import doctor
from tijepa.errors import DataError

from .pairs_on_disk import jpeg


def table(folder: Path, name: str, text: str, images: int = 12) -> Path:
    folder.mkdir()
    for number in range(images):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def findings(source: Path, tmp_path: Path) -> dict[str, Any]:
    facts = doctor(str(source), tmp_path / "report", threads=1, max_bad=1.0).facts
    return {kind: entry["items"] for kind, entry in facts["findings"].items()}


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("later", ['"Study" of a square', "a square", '"b', 'so "called"'])
def test_a_quote_that_never_closes_costs_its_row_alone(
    tmp_path: Path, separator: str, later: str
) -> None:
    """Row 3 (line 5) opens a quote; rows 4 and 5 and the rest are read, whatever a later one has.

    A later caption that opens a quote itself is a second such row.
    """
    rows = [[f"{n}.jpg", f"caption {n}"] for n in range(12)]
    rows[3][1], rows[6][1] = '"Untitled and a square', later
    text = "\n".join(separator.join(row) for row in (["image", "caption"], *rows)) + "\n"
    found = list(open_reader(str(table(tmp_path / "a", "captions.csv", text))))
    broken = [one.item for one in found if isinstance(one, Rejected)]
    assert broken == ["line 5"] + (["line 8"] if later == '"b' else [])
    assert len(found) == 12


def test_quoted_line_breaks_stay_in_their_cell(tmp_path: Path) -> None:
    text = 'image,caption\n0.jpg,"one ""word""\n1.jpg, two"\n1.jpg,next\n'
    first, second = open_reader(str(table(tmp_path / "a", "captions.csv", text)))
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.captions == ('one "word"\n1.jpg, two',)


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["a ball", "a red ball"]', ("a ball", "a red ball")),
        ("['a ball', \"a dog's ball\"]", ("a ball", "a dog's ball")),
        ("[a sign in brackets]", ("[a sign in brackets]",)),
        ("['a' 'b']", ("['a' 'b']",)),
        ("[1, 2]", ("[1, 2]",)),
        ([{"raw": "a"}, {"caption": "b"}], ("a", "b")),
        ({"tokens": 3}, ({"tokens": 3},)),
    ],
)
def test_a_cell_that_is_a_list_is_several_captions(cell: Any, captions: tuple[Any, ...]) -> None:
    assert captions_of(cell) == captions


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_paths_of_any_kind_of_text_are_grouped(tmp_path: Path, kind: pa.DataType) -> None:
    folder = table(tmp_path / "a", "unused.txt", "")
    paths = [f"{n // 3}.jpg" for n in range(36)]
    column = pa.array(paths).cast(kind)
    pyarrow.parquet.write_table(
        pa.table({"image": column, "caption": [f"c{n}" for n in range(36)]}), folder / "d.parquet"
    )
    found = list(open_reader(str(folder)))
    assert [len(one.captions) for one in found if isinstance(one, Record)] == [3] * 12


def test_each_parquet_file_has_columns_of_its_own(tmp_path: Path) -> None:
    for name, column in (("a", "caption"), ("b", "text")):
        rows = {"image": [jpeg(n) for n in range(3)], column: [f"{name}{n}" for n in range(3)]}
        pyarrow.parquet.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    found = [one for one in open_reader(str(tmp_path)) if isinstance(one, Record)]
    assert [one.captions for one in found] == [(f"{f}{n}",) for f in "ab" for n in range(3)]


@pytest.mark.parametrize("marker", [b"\xff\xe2", b"\xff\xe1", b"\xff\xed"])
def test_orientation_behind_long_segments_is_found(marker: bytes) -> None:
    """45,000 bytes of ICC, XMP or APP13 before the EXIF; 30 x 20 pixels turned are 20 x 30."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", exif=exif)
    plain = buffer.getvalue()
    segment = marker + (45_002).to_bytes(2, "big") + b"x" * 45_000
    assert decode_image(plain[:2] + segment + plain[2:]).shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("largest", "brightest"), [(255, 255), (1020, 255), (4080, 255), (65535, 255), (20000, 78)]
)
def test_grey_of_16_bits_is_scaled_by_the_bits_in_use(largest: int, brightest: int) -> None:
    """1020 / 4, 4080 / 16, 65535 / 256 and 20000 / 256 = 78."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), largest, np.uint16)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).max() == brightest


def test_images_that_are_all_but_black_are_told(tmp_path: Path) -> None:
    folder = table(tmp_path / "a", "captions.csv", "image,caption\nb.png,a\n0.jpg,b\n", 1)
    Image.new("RGB", (32, 32), (2, 2, 2)).save(folder / "b.png")
    assert findings(folder, tmp_path)["image-black"] == 1


def test_placeholders_are_no_captions(tmp_path: Path) -> None:
    rows = [{"image": f"{n}.jpg", "caption": ("nan", "None", "a nan")[n % 3]} for n in range(12)]
    text = "\n".join(map(json.dumps, rows))
    found = findings(table(tmp_path / "a", "captions.jsonl", text), tmp_path)
    assert found["captions-all-invalid"] == 8


def test_a_caption_of_very_many_items_and_ids_that_repeat_are_told(tmp_path: Path) -> None:
    """60 texts with the ids 0 and 1, a sixth of them one caption."""
    rows = [
        {"image": None, "caption": "untitled" if n % 6 == 0 else f"t{n}", "id": n % 2}
        for n in range(60)
    ]
    text = "\n".join(map(json.dumps, rows))
    found = findings(table(tmp_path / "a", "captions.jsonl", text, 0), tmp_path)
    assert found["ids-repeat"] == 51


def test_a_source_without_train_split_is_told(tmp_path: Path) -> None:
    text = "image,caption,split\n0.jpg,a,test\n1.jpg,b,val\n"
    found = findings(table(tmp_path / "a", "captions.csv", text), tmp_path)
    assert found["no-train-split"] == 2


def test_classes_of_datasets_keep_their_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "caption": datasets.Value("string"),
            "image": datasets.Value("binary"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    rows = {"caption": ["a", "b", "c"], "image": [jpeg(n) for n in range(3)], "label": [1, 0, -1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"))
    found = [one for one in open_reader(str(tmp_path / "d")) if isinstance(one, Record)]
    assert [one.extra["label"] for one in found] == ["dog", "cat", None]


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    folder = table(tmp_path / "a", "captions.csv", "image,Caption_en\n0.jpg,a\n")
    with pytest.raises(DataError, match="did you mean 'Caption_en'"):
        open_reader(str(folder), options=ReaderOptions(caption_column="caption_eng"))


def test_what_macos_leaves_beside_a_source_is_not_taken_for_one(tmp_path: Path) -> None:
    folder = table(tmp_path / "a", "labels.csv", "image,caption\n0.jpg,a\n")
    (folder / "._labels.csv").write_bytes(b"\0\5\x16\7")
    assert len(list(open_reader(str(folder)))) == 1
    rows = pa.table({"images": [[jpeg(1)], [jpeg(1), jpeg(2)]], "text": ["a", "b"]})
    pyarrow.parquet.write_table(rows, tmp_path / "b.parquet")
    (tmp_path / "._b.parquet").write_bytes(b"\0\5\x16\7")
    record, problem = open_reader(str(tmp_path), reader="parquet")
    assert isinstance(record, Record)
    assert isinstance(problem, Rejected)
    assert (record.image, problem.reason) == (jpeg(1), "image is a list of 2: an item has one")


def test_coco_ids_may_be_texts_and_annotations_those_of_more_images(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    notes = [{"image_id": 0, "caption": "a"}, {"image_id": 9, "caption": "of no listed image"}]
    content = {"images": [{"id": "0", "file_name": "0.jpg"}], "annotations": notes}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    note, record = open_reader(str(tmp_path), reader="coco")
    assert isinstance(note, Rejected)
    assert isinstance(record, Record)
    assert (note.samples, record.captions) == (0, ("a",))
