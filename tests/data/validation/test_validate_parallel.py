from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.records import Record
from tijepa.data.validation.check import Checked, validate_parallel
from tijepa.errors import DataError


def image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 10, 10)).save(buffer, "JPEG")
    return buffer.getvalue()


def source(count: int) -> Iterator[Record | Rejected]:
    """Every seventh row gives no record."""
    data = image()
    for number in range(count):
        if number % 7 == 3:
            yield Rejected(str(number), "torn")
        else:
            yield Record(str(number), "", data, (f"caption {number}",))


def names(items: Iterator[Checked | Rejected]) -> list[str]:
    found = []
    for item in items:
        if isinstance(item, Rejected):
            found.append(item.item)
        else:
            assert item.sound is not None
            found.append(item.sound.record.id)
    return found


def own_threads() -> int:
    return sum(thread.name.startswith("tijepa-check") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_everything_comes_out_once_and_in_order(threads: int, count: int) -> None:
    assert names(validate_parallel(source(count), threads=threads)) == [
        str(n) for n in range(count)
    ]
    assert own_threads() == 0


def test_reading_ahead_is_bounded_by_records() -> None:
    """1 thread: 2 chunks of 64 wait and one is being read when the first comes out."""
    taken = []

    def counted() -> Iterator[Record | Rejected]:
        for item in source(10_000):
            taken.append(item)
            yield item

    examined = validate_parallel(counted(), threads=1)
    next(examined)
    assert len(taken) <= 64 * (2 * 1 + 2)
    examined.close()  # type: ignore[attr-defined]
    assert own_threads() == 0


def test_reading_ahead_is_bounded_by_bytes() -> None:
    """Images of 3 MiB: two fill a chunk of 4 MiB, so at most 2 * (2 * 1 + 2) are in flight."""
    taken = []

    def counted() -> Iterator[Record | Rejected]:
        for number in range(100):
            taken.append(number)
            yield Record(str(number), "", bytes(3 * 2**20), ())

    examined = validate_parallel(counted(), threads=1)
    next(examined)
    assert len(taken) <= 8
    examined.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("good", [0, 5, 64, 200])
def test_what_came_before_an_error_of_the_reader_comes_out_first(threads: int, good: int) -> None:
    def broken() -> Iterator[Record | Rejected]:
        yield from source(good)
        raise DataError("the disk is gone")

    seen = []
    with pytest.raises(DataError, match="the disk is gone"):
        seen.extend(validate_parallel(broken(), threads=threads))
    assert own_threads() == 0
    # `extend` keeps what it got before the error
    assert len(seen) == good


def test_an_interrupt_of_the_reader_ends_the_threads() -> None:
    def interrupted() -> Iterator[Record | Rejected]:
        yield from source(500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(validate_parallel(interrupted(), threads=2))
    assert own_threads() == 0
