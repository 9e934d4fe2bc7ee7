"""Every sample of a source becomes one thing, and what is not read counts by sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tijepa.data.pairs import Rejected
from tijepa.data.readers import open_reader
from tijepa.data.records import Account, Record
from tijepa.data.validation.diagnosis import doctor

from .pairs_on_disk import jpeg

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def tar(
    path: Path, members: Iterable[tuple[str, bytes]], links: Sequence[tuple[str, str]] = ()
) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            archive.addfile(info)
    return path


def counts(source: Path, tmp_path: Path, **options: Any) -> tuple[dict[str, int], bool]:
    """Of the diagnosis: pairs, images and texts alone, rejected; and whether it is fit."""
    report = doctor(str(source), tmp_path / "report", threads=1, **options)
    names = ("pairs", "images_only", "texts_only", "rejected")
    return {name: report.facts["counts"][name] for name in names}, report.fit


def became(pairs: int = 0, images: int = 0, texts: int = 0, rejected: int = 0) -> dict[str, int]:
    return {"pairs": pairs, "images_only": images, "texts_only": texts, "rejected": rejected}


@pytest.mark.parametrize(
    ("ending", "form"), [("gif", "GIF"), ("bmp", "BMP"), ("tif", "TIFF"), ("jfif", "JPEG")]
)
def test_a_tar_keeps_the_images_of_other_endings(tmp_path: Path, ending: str, form: str) -> None:
    from PIL import Image

    def image(number: int, form: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (20, 20), (number, 200, 90)).save(buffer, form)
        return buffer.getvalue()

    members = [(f"{n}.jpg", image(n, "JPEG")) for n in range(50)]
    members += [(f"{n}.{ending}", image(n, form)) for n in range(50, 100)]
    members += [(f"{n}.txt", b"a caption %d" % n) for n in range(100)]
    found, fit = counts(tar(tmp_path / "a.tar", members), tmp_path)
    assert (found, fit) == (became(pairs=100), True)


def test_a_text_whose_image_is_not_read_is_no_text_alone(tmp_path: Path) -> None:
    """HEIC is rejected by the check, an unknown member by the reader; only one has no image."""
    members = [("1.heic", HEIC), ("1.txt", b"one"), ("2.npy", b"x"), ("2.txt", b"two")]
    members += [("3.txt", b"three"), ("3.json", b"{}"), ("4.jpg", jpeg(4)), ("4.txt", b"four")]
    found, fit = counts(tar(tmp_path / "a.tar", members), tmp_path)
    assert (found, fit) == (became(pairs=1, texts=1, rejected=2), False)


def test_members_without_ending_are_counted(tmp_path: Path) -> None:
    members = [("1.jpg", jpeg(1)), ("1.txt", b"one"), *((f"n{k}", jpeg(k)) for k in range(9))]
    found, fit = counts(tar(tmp_path / "a.tar", [*members, ("README", b"x")]), tmp_path)
    assert (found, fit) == (became(pairs=1, rejected=9), False)


def test_a_plain_ending_is_the_image_before_a_longer_one(tmp_path: Path) -> None:
    members = [("1.depth.png", b"depth"), ("1.jpg", jpeg(1)), ("1.txt", b"one")]
    record, note = open_reader(str(tar(tmp_path / "a.tar", members)))
    assert isinstance(record, Record)
    assert record.image == jpeg(1)
    assert note == Rejected("*.depth.png", "1 members of this kind are not read", samples=0)


def test_names_with_dots_are_samples_of_their_own(tmp_path: Path) -> None:
    members = [(f"a.{n}.c.{e}", d) for n in range(9) for e, d in (("jpg", jpeg(n)), ("txt", b"t"))]
    found = list(open_reader(str(tar(tmp_path / "a.tar", members))))
    assert [record.id for record in found if isinstance(record, Record)] == [
        f"a/a.{n}.c" for n in range(9)
    ]
    assert all(isinstance(record, Record) and record.image for record in found)


def test_links_in_a_tar_are_followed_or_rejected(tmp_path: Path) -> None:
    members = [("1.jpg", jpeg(1)), ("1.txt", b"one"), ("2.txt", b"two"), ("3.txt", b"three")]
    source = tar(tmp_path / "a.tar", members, [("2.jpg", "1.jpg"), ("3.jpg", "away.jpg")])
    found, _ = counts(source, tmp_path)
    assert found == became(pairs=2, rejected=1)


def test_what_macos_adds_is_no_sample(tmp_path: Path) -> None:
    junk = [("._1.jpg", b"x"), ("__MACOSX/._1.txt", b"x"), (".DS_Store", b"x")]
    source = tar(tmp_path / "a.tar", [("1.jpg", jpeg(1)), ("1.txt", b"one"), *junk])
    assert counts(source, tmp_path) == (became(pairs=1), True)


def test_a_damaged_shard_counts_what_it_probably_held(tmp_path: Path) -> None:
    """Cut in half, 40 equal samples of 3 blocks each lose about 20."""
    members = [(f"{n:02}.{e}", b"x" * 400) for n in range(40) for e in ("jpg", "txt")]
    source = tar(tmp_path / "a.tar", members)
    content = source.read_bytes()
    half = 80 * 1024 // 2
    source.write_bytes(content[:half] + b"no header" * 60 + content[half + 540 : 80 * 1024])
    lost = [one for one in open_reader(str(source)) if isinstance(one, Rejected)]
    assert 18 <= lost[-1].samples <= 22


def test_a_damaged_row_group_loses_its_rows_alone(tmp_path: Path) -> None:
    """2,000 rows in two groups, the second destroyed: 1,000 rejected, though one line says so."""
    rows = pa.table({"image": [jpeg(n % 50) for n in range(2000)], "caption": ["a"] * 2000})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(rows, path, row_group_size=1000, compression="none")
    with pyarrow.parquet.ParquetFile(path) as table:
        start = table.metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(bytes(content))
    found, fit = counts(path, tmp_path)
    assert found["pairs"] + found["rejected"] == 2000
    assert found["rejected"] == 1000
    assert not fit


def test_the_group_behind_a_damaged_one_is_read(tmp_path: Path) -> None:
    rows = pa.table({"image": [jpeg(n % 50) for n in range(300)], "caption": ["a"] * 300})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(rows, path, row_group_size=100, compression="none")
    with pyarrow.parquet.ParquetFile(path) as table:
        start = table.metadata.row_group(1).column(0).dictionary_page_offset
        start = start or table.metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(bytes(content))
    found = list(open_reader(str(path)))
    assert sum(isinstance(one, Record) for one in found) == 200
    assert [one.samples for one in found if isinstance(one, Rejected)] == [100]


def test_rows_behind_a_damaged_one_of_datasets_are_counted() -> None:
    datasets = pytest.importorskip("datasets")
    from tijepa.data.readers.datasets import _rows

    class Broken:
        num_rows = 10
        features = datasets.Features({})
        data = pa.table({})

        def __iter__(self) -> Iterable[dict[str, Any]]:
            yield {"caption": "a"}
            raise OSError("torn")

    *_, last = _rows(Broken(), "row")
    assert isinstance(last, Rejected)
    assert (last.item, last.samples) == ("row:2", 9)


def test_heic_beside_pairs_and_lone_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
        (folder / f"{n}.txt").write_text(f"caption {n}")
    (folder / "5.heic").write_bytes(HEIC)
    (folder / "5.txt").write_text("unread")
    (folder / "6.json").write_text(json.dumps({"caption": "lone"}))
    (folder / "7.txt").write_text("lone")
    (folder / "._0.jpg").write_bytes(b"resource fork")
    found, fit = counts(folder, tmp_path)
    assert (found, fit) == (became(pairs=5, rejected=3), False)
    listed = (tmp_path / "report" / "rejected.jsonl").read_text()
    assert "is HEIC, which is not read: convert it to JPEG or PNG" in listed


def test_what_a_reader_leaves_out_is_told_at_the_end() -> None:
    """Of 5 samples the reader gives 2: the account says of 3 that they were not read."""
    account = Account(held=5)
    given = [Record("a", "a", b"", ("x",)), Rejected("b", "torn")]
    *_, last = account.taking(given)
    assert isinstance(last, Rejected)
    assert (last.samples, account.given) == (3, 5)
    account.pairs, account.rejected = 1, 4
    account.settle()
    account.rejected = 3
    with pytest.raises(AssertionError, match="5 samples were given, 4 accounted for"):
        account.settle()
