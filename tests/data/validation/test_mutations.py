"""Mutated files and captions through check, examination and diagnosis: nothing is lost or hangs."""

from __future__ import annotations

import io
import json
import resource
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tijepa.cli import main
from tijepa.data.pairs import Rejected
from tijepa.data.records import Record
from tijepa.data.store.source import open_store
from tijepa.data.validation import Diagnosis
from tijepa.data.validation.check import validate_parallel

SIDE = 30_000


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def originals() -> tuple[bytes, ...]:
    """Sound images of every usual format and mode."""
    points = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(points).resize((120, 90), Image.Resampling.BICUBIC)
    other = image.transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [other]}
    return (
        encode(image, "JPEG", exif=exif),
        encode(image, "JPEG", progressive=True),
        encode(image.convert("CMYK"), "JPEG"),
        encode(image.convert("L"), "JPEG"),
        encode(image, "PNG", exif=exif),
        encode(image.convert("RGBA"), "PNG"),
        encode(image.convert("P"), "PNG", transparency=3),
        encode(Image.new("I;16", (40, 30), 700), "PNG"),
        encode(image, "PNG", **frames),
        encode(image, "GIF", **frames),
        encode(image, "WEBP", **frames),
        encode(image, "WEBP", lossless=True),
        encode(image, "TIFF", compression="tiff_lzw"),
        encode(image, "TIFF", **frames),
        encode(image, "BMP"),
        encode(image, "PPM"),
        encode(image, "JPEG2000"),
    )


def flip_bits(random: Random) -> bytes:
    data = bytearray(random.choice(originals()))
    for _ in range(random.choice((1, 4, 40))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def truncate(random: Random) -> bytes:
    data = random.choice(originals())
    return data[: random.randrange(len(data))]


def blank_out(random: Random) -> bytes:
    data = bytearray(random.choice(originals()))
    start = random.randrange(len(data))
    stop = min(len(data), start + random.randrange(1, 2_000))
    data[start:stop] = bytes(stop - start)
    return bytes(data)


def splice(random: Random) -> bytes:
    first, second = random.choice(originals()), random.choice(originals())
    return first[: random.randrange(len(first))] + second[random.randrange(len(second)) :]


def zip_bomb(random: Random) -> bytes:
    """Megabytes of zeros in a few kilobytes, under an image's name or behind its magic number."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", bytes(3_000_000))
    return random.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) + buffer.getvalue()


def png(random: Random, width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, random.choice((0, 2, 6)), 0, 0, 0)
    extra = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(3_000_000)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + random.choice((b"", extra))
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def huge_header(random: Random) -> bytes:
    """30,000 x 30,000 pixels by the header of PNG, JPEG, WebP, TIFF, BMP, GIF or PPM."""
    kind = random.choice(("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"))
    if kind == "PNG":
        return png(random, SIDE, SIDE, bytes(1_000))
    if kind == "PPM":
        return b"P6 %d %d 255\n" % (SIDE, SIDE) + bytes(100)
    image = Image.new("RGB", (64, 48), (9, 99, 199))
    frames = [image.rotate(180), image.rotate(90)] if kind == "WEBP" else []
    options: dict[str, Any] = {"save_all": True, "append_images": frames} if frames else {}
    image.putpixel((1, 1), (0, 0, 0))
    data = bytearray(encode(image, kind, **options))
    if kind == "JPEG":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    elif kind == "WEBP":
        assert data[12:16] == b"VP8X"
        data[24:30] = (SIDE - 1).to_bytes(3, "little") * 2
    elif kind == "BMP":
        data[18:26] = struct.pack("<II", SIDE, SIDE)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", SIDE, SIDE)
    else:
        start = int.from_bytes(data[4:8], "little") + 2
        for tag in (256, 257):
            place = data.index(tag.to_bytes(2, "little"), start)
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, SIDE)
    return bytes(data)


def junk(random: Random) -> bytes:
    size = random.choice((0, 1, 3, 40, 5_000))
    magic = random.choice((b"", *(data[:12] for data in originals())))
    return random.choice((b"", magic + random.randbytes(size), bytes(size)))


def untouched(random: Random) -> bytes:
    return random.choice(originals())


MUTATIONS: tuple[Callable[[Random], bytes], ...] = (
    flip_bits,
    truncate,
    blank_out,
    splice,
    zip_bomb,
    huge_header,
    junk,
    untouched,
)


def nested(random: Random) -> Any:
    value: Any = "core"
    for _ in range(random.choice((1, 50, 3_000))):
        value = [value] if random.random() < 0.5 else {"deeper": value}
    return value


def caption(random: Random) -> Any:
    makers: tuple[Callable[[], Any], ...] = (
        lambda: "a dog on a beach",
        lambda: "<b>bold</b> & \x00\x1b[2J",
        lambda: "x" * 1_000_000,
        lambda: "lone \ud800 surrogate",
        lambda: random.randbytes(30).decode("utf-8", "surrogateescape"),
        lambda: random.randbytes(30),
        lambda: " \u3000\n",
        lambda: None,
        lambda: 10 ** random.randrange(400),
        lambda: float("nan"),
        lambda: nested(random),
        lambda: "\u202e" + "👩‍👩‍👧" * 200,
    )
    return random.choice(makers)()


def mutated(count: int, seed: int) -> Iterator[Record | Rejected]:
    """`count` items, the same ones for the same seed."""
    random = Random(seed)
    for number in range(count):
        name = f"{number}-\udcff.jpg" if random.random() < 0.05 else f"{number}.jpg"
        if random.random() < 0.03:
            yield Rejected(name, "invalid UTF-8")
            continue
        image = random.choice(MUTATIONS)(random) if random.random() < 0.95 else None
        captions = tuple(caption(random) for _ in range(random.randrange(4)))
        split = random.choice((None, "train", "test"))
        extra = {"label": random.choice(("a", "b", None)), "deep": nested(random)}
        yield Record(name, f"row {number}", image, captions, split, extra)


def everything_is_accounted_for(folder: Path, count: int, seed: int) -> Counter[str]:
    """Run `count` mutations; returns how many items are skipped by kind."""
    sound = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Diagnosis(folder, source="mutated", description="mutated", max_tokens=8) as diagnosis:
        for item in validate_parallel(diagnosis.account.taking(mutated(count, seed)), threads=2):
            if not isinstance(item, Rejected) and item.sound is not None:
                sound.append(item.sound.record.id)
            diagnosis.add(item)
        report = diagnosis.finish()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    aside = [line for line in lines if line["what"] == "item"]
    expected = [
        item.item if isinstance(item, Rejected) else item.id for item in mutated(count, seed)
    ]
    assert sorted(sound + [line["item"] for line in aside]) == sorted(expected)
    assert all(line["reason"].strip() and "\n" not in line["reason"] for line in lines)
    assert report.facts["counts"]["sound"] == len(sound)
    assert report.facts["counts"]["rejected"] == len(aside)
    assert grown < 512 * 1024, "KiB of memory more than before"
    return Counter(line["kind"] for line in aside)


@pytest.mark.timeout(120)
def test_three_hundred_mutated_files_are_accounted_for_exactly_once(tmp_path: Path) -> None:
    kinds = everything_is_accounted_for(tmp_path, 300, seed=1)
    assert {
        "row-unusable",
        "image-empty",
        "image-unknown-format",
        "image-header-damaged",
        "image-truncated",
        "image-damaged",
        "image-too-large",
        "captions-all-invalid",
    } <= set(kinds)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_thousand_mutated_files_are_accounted_for_exactly_once(tmp_path: Path) -> None:
    kinds = everything_is_accounted_for(tmp_path, 2_000, seed=2)
    assert kinds["image-too-large"] > 100


def test_every_huge_header_is_refused_as_too_large() -> None:
    """60 draws of 7 formats; none is decoded or taken for something else."""
    random = Random(3)
    records = [Record(str(n), "", huge_header(random), ()) for n in range(60)]
    for checked in validate_parallel(records, threads=0):
        assert not isinstance(checked, Rejected)
        assert [finding.kind for finding in checked.findings] == ["image-too-large"]


def row_of(random: Random, name: str) -> bytes:
    """A line of a captions file; one in twenty is not UTF-8, some captions have a megabyte."""
    row = {"image": name, "captions": [random.choice(("a dog", "", "x" * 1_000_000))], "n": name}
    line = json.dumps(row).encode()
    return line.replace(b"a dog", b"a \xff\xfe dog") if random.random() < 0.05 else line


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_thousand_mutated_files_go_through_prepare_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of any ending on a disk, by the verb itself; an item is stored or in rejected_path."""
    monkeypatch.chdir(tmp_path)
    random = Random(4)
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number in range(2_000):
        name = f"{number}.{random.choice(('jpg', 'png', 'webp', 'txt'))}"
        (folder / name).write_bytes(random.choice(MUTATIONS)(random))
        lines.append(row_of(random, name))
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines))
    assert main(["prepare", "photos", "--out", "photos.lance", "--max-bad", "1"]) == 0
    stored = sum(len(source) for source in open_store("photos.lance").splits.values())
    listed = (tmp_path / "photos.prepared/rejected.jsonl").read_text().splitlines()
    aside = [entry for entry in map(json.loads, listed) if entry["what"] == "item"]
    assert stored + len(aside) == 2_000
    assert min(stored, len(aside)) > 100
    assert all(entry["reason"] for entry in aside)
