"""Damage anywhere in a source ends in records, reasons or one line, never in a crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tijepa.data.readers import open_reader
from tijepa.data.records import Record
from tijepa.errors import DataError

from . import pairs_on_disk as disk

MUTATIONS = 40


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Cut short, lengthened, or with one to twenty bytes overwritten."""
    way = draw.random()
    if way < 0.2:
        return data[: draw.randrange(len(data) + 1)]
    if way < 0.3:
        return data + draw.randbytes(50)
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 20))):
        changed[draw.randrange(len(data))] = draw.choice((0, 0xFF, draw.randrange(256)))
    return bytes(changed)


def read_all(source: str, reader: str | None) -> None:
    """Read everything; ids and reasons are what a file in UTF-8 can hold, on one line."""
    opened = open_reader(source, reader=reader)
    opened.describe().encode("utf-8")
    opened.fingerprint()
    for item in opened:
        if isinstance(item, Record):
            f"{item.id} {item.reference} {item.split} {item.extra}".encode()
        else:
            f"{item.item} {item.reason}".encode()
            assert "\n" not in item.reason


@pytest.mark.parametrize("layout", disk.WRITERS)
def test_no_damaged_file_of_a_layout_breaks_its_reader(tmp_path: Path, layout: str) -> None:
    source = disk.WRITERS[layout](tmp_path, disk.pairs())
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".jpg")
    draw = random.Random(layout)
    for _ in range(MUTATIONS):
        path = draw.choice(files)
        data = path.read_bytes()
        path.write_bytes(mutated(data, draw))
        try:
            read_all(source, draw.choice((None, layout.partition("-")[0])))
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 (most damage raises nothing)
        path.write_bytes(data)
