"""A source that is given as a list."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from PIL import Image

from tijepa.data.pairs import Rejected
from tijepa.data.records import Reader, Record


class Given(Reader):
    """The records of a list; `readings` counts how often they were read."""

    name: ClassVar[str] = "given"
    layout: ClassVar[str] = "a list"

    def __init__(self, records: Sequence[Record | Rejected | BaseException]) -> None:
        self.records = records
        self.readings = 0

    @classmethod
    def recognises(cls, source: str) -> bool:
        return False

    def __iter__(self) -> Iterator[Record | Rejected]:
        self.readings += 1
        for record in self.records:
            if isinstance(record, BaseException):
                raise record
            yield record

    def describe(self) -> str:
        return "a given list"

    def fingerprint(self) -> str:
        return "0"


def png(shade: int, side: int = 24) -> bytes:
    """An image of its own for every shade below 256."""
    image = Image.linear_gradient("L").resize((side, side))
    buffer = io.BytesIO()
    Image.merge("RGB", (image, image, Image.new("L", (side, side), shade))).save(buffer, "PNG")
    return buffer.getvalue()


def pair(number: int, split: str | None = "train", **extra: Any) -> Record:
    """Item `number`: an image of that shade and two captions."""
    captions = (f"caption {number}", f"again {number}")
    return Record(f"i{number}", f"row {number}", png(number % 256), captions, split, extra)


@pytest.fixture(scope="session")
def make_reader() -> Callable[[Sequence[Record | Rejected | BaseException]], Given]:
    return Given


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., Record]:
    return pair
