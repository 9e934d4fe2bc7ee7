"""What every reader gives and `prepare` takes: one record for each item of a source.

A reader turns one layout that people keep pairs in into records, in a fixed order and one at a
time, so that a source larger than memory can be read. It does not judge images or captions:
`tijepa.data.validation.check` does that for all readers alike.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar

from tijepa.data.pairs import Rejected


@dataclass(frozen=True)
class Record:
    """One item as its source holds it, before any check.

    `id` is stable: reading the source again gives the same one. `reference` says where the item
    stands (file and line, shard and key). `image` are the bytes of the image file, None where the
    source names none. `captions` are what the source holds as captions, whatever their type.
    `extra` are all further columns, values that JSON can hold.
    """

    id: str
    reference: str
    image: bytes | None
    captions: tuple[Any, ...]
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Numeral(str):
    """A cell of a table that reads as a number, and `number` that one; text where others do not.

    Leading zeros make none (007, a postcode), so the text can be told from the number.
    """

    number: int | float

    @classmethod
    def of(cls, cell: str, *, comma: bool) -> str:
        """The cell, as a numeral where it is one; with `comma` 12,50 is one too."""
        found = _NUMERAL.fullmatch(cell)
        if found is None or (found[2] == "," and not comma):
            return cell
        made = cls(cell)
        made.number = int(cell) if found[2] is None else float(cell.replace(",", "."))
        return made


_NUMERAL = re.compile(r"(-?(?:0|[1-9]\d{0,17}))(?:([.,])\d{1,17})?")


@dataclass(frozen=True)
class ReaderOptions:
    """What a user may say about a source; None where the reader shall find out by itself.

    Of several caption columns each gives captions of the same item.
    """

    image_column: str | None = None
    caption_column: str | tuple[str, ...] | None = None
    split_column: str | None = None

    @classmethod
    def of(
        cls, image: str | None, caption: str | Sequence[str] | None, split: str | None
    ) -> ReaderOptions:
        """Of columns as they are given; several of captions, or one."""
        if caption is not None and not isinstance(caption, str):
            caption = caption[0] if len(caption) == 1 else tuple(dict.fromkeys(caption)) or None
        return cls(image, caption, split)

    @property
    def caption_columns(self) -> tuple[str, ...] | None:
        """Those that are named."""
        named = self.caption_column
        return (named,) if isinstance(named, str) else named


@dataclass
class Account:
    """What became of every sample of a source, each counted once.

    `held` is how many the reader says there are, None where that is not known without reading.
    `rejected` includes `copies`, which are sound but were asked to be skipped; `known` stood in the
    store already.
    """

    held: int | None = None
    given: int = 0
    pairs: int = 0
    images_only: int = 0
    texts_only: int = 0
    rejected: int = 0
    copies: int = 0
    known: int = 0

    @property
    def sound(self) -> int:
        """Samples that can be used."""
        return self.pairs + self.images_only + self.texts_only

    @property
    def items(self) -> int:
        """Samples that are used or rejected."""
        return self.sound + self.rejected

    @property
    def bad_share(self) -> float:
        """Share of the samples that are broken or were not read."""
        return (self.rejected - self.copies) / self.items if self.items else 0.0

    def taking(
        self,
        items: Iterable[Record | Rejected],
        advance: Callable[[int], None] = lambda count: None,
    ) -> Iterator[Record | Rejected]:
        """The `items` of the source; at the end what it holds beside them, as not read."""
        for item in items:
            samples = item.samples if isinstance(item, Rejected) else 1
            self.given += samples
            advance(samples)
            yield item
        missing = 0 if self.held is None else self.held - self.given
        assert missing >= 0, f"the reader gave {self.given} samples of {self.held}"
        if missing:
            self.given += missing
            yield Rejected("(not read)", f"{missing:,} samples of the source are not read", missing)

    def settle(self) -> None:
        """Every sample that was given has become something, and one thing."""
        became = self.items + self.known
        assert self.given == became, f"{self.given} samples were given, {became} accounted for"


class Reader(ABC):
    """One layout. Raises `DataError` when opened if the source as a whole cannot be used."""

    name: ClassVar[str]  # as registered, and as given to `reader`
    layout: ClassVar[str]  # one line for people: what the reader takes
    priority: ClassVar[int] = 0  # the lowest of those that recognise a source takes it
    addresses: ClassVar[bool] = False  # whether a source may be a name or address, and no path
    follows: ClassVar[frozenset[str]] = frozenset(  # fields of ReaderOptions that have an effect
        ("image_column", "caption_column", "split_column")
    )

    @abstractmethod
    def __init__(self, source: str, options: ReaderOptions) -> None: ...

    @classmethod
    @abstractmethod
    def recognises(cls, source: str) -> bool:
        """Whether `source` (a path, pattern or name) is of this layout; cheap, never raises."""

    @abstractmethod
    def __iter__(self) -> Iterator[Record | Rejected]:
        """Records in a fixed order; what cannot even become a record as `Rejected`.

        Every sample of the source is in one of them. A text is a record without an image only where
        the source has none for it, never because its image was not read.
        """

    def first(self, most: int) -> Iterator[Record | Rejected]:
        """At most `most` records of each split, in the order of all; those without split are one.

        What was skipped belongs to the record before it.
        """
        taken: Counter[str | None] = Counter()
        wanted = True
        for item in self:
            if isinstance(item, Record):
                wanted = taken[item.split] < most
                taken[item.split] += wanted
            if wanted:
                yield item

    @abstractmethod
    def describe(self) -> str:
        """One line: which file, which columns or keys were taken for image, caption and split."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest that changes when the source changes; cheap (names, sizes, times)."""

    def count(self) -> int | None:
        """Number of samples if it is known without reading them.

        What is given falls short of it by samples that were not read, which count as rejected.
        """
        return None


_CANONICAL = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy: validation images of COCO that everyone trains on
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_CANONICAL, key=len, reverse=True))})(?![a-z])")


def canonical_split(name: str) -> str:
    """`name` in lower case; val, valid and dev are "validation", training and restval "train"."""
    stripped = name.strip().lower()
    return _CANONICAL.get(stripped, stripped)


def mistyped_split(name: str) -> str | None:
    """The usual split that `name` is probably meant to be; None for that and for other names."""
    if name in _CANONICAL.values():
        return None
    near = get_close_matches(name, _CANONICAL, n=1, cutoff=0.75)
    return _CANONICAL[near[0]] if near else None


def split_in_name(name: str) -> str | None:
    """The split that a file or folder name speaks of, None where it speaks of none or of several.

    "train-00000-of-00002", "captions_val2017" and "test" do; "latest" does not.
    """
    found = {_CANONICAL[word] for word in _WORD.findall(name.lower())}
    return found.pop() if len(found) == 1 else None


def split_in_names(names: Iterable[str]) -> str | None:
    """The split that the first of `names` to speak of one speaks of."""
    return next(filter(None, map(split_in_name, names)), None)


def split_of(item: str) -> str:
    """The split by a hash of the id alone: 90 % train, 5 % validation, 5 % test."""
    fraction = hash_fraction(item)
    return "train" if fraction < 0.9 else "validation" if fraction < 0.95 else "test"


def hash_fraction(item: str) -> float:
    """A number in [0, 1) that depends on the id alone and is spread evenly over ids."""
    digest = hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
