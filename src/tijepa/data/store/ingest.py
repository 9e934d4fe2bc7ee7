"""One reading of a source: records are checked, given splits, diagnosed and handed on."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tijepa.data.pairs import Rejected
from tijepa.data.records import Account, Record, hash_fraction, split_of
from tijepa.data.store.source import Store
from tijepa.data.store.writer import storable
from tijepa.data.validation import Diagnosis, Report
from tijepa.data.validation.check import (
    COPY,
    Checked,
    Sound,
    content_of,
    text_hash,
    validate_parallel,
)
from tijepa.data.validation.duplicates import Known
from tijepa.data.validation.report import above_bound
from tijepa.errors import DataError

_FEWEST_TO_SPLIT = 20
_CERTAIN = 2000  # items from which the hash alone decides: 5 % are about 100
_HELD_OUT, _SHARE = 100, 0.15  # below that: so many in either held-out split, at most that share
_ROWS_AT_ONCE = 4096
_COLUMNS = ["id", "split", "captions", "content_hash", "look"]
_TAKEN = (
    "the store holds another image or other captions under this id: rename it, or prepare all"
    " into a new store"
)


@dataclass(frozen=True)
class Plan:
    """What readings of the source before this one have shown.

    `named`: whether the source names splits; None where its first item decides. `moved`: splits
    of single items of a small source that the hash does not decide; None where that is not known.
    `redundant`: the rows (numbers among the sound items, ascending) to skip as duplicates.
    """

    named: bool | None = None
    moved: Mapping[str, str] | None = None
    redundant: NDArray[np.int64] | None = None


class StartAgainError(Exception):
    """What only the end of a source tells makes reading start again, by `plan`."""

    def __init__(self, plan: Plan) -> None:
        super().__init__("the source has to be read once more")
        self.plan = plan


class Ingest:
    """Reads a source once. `counts`, by split, grow meanwhile; `report` is there at the end.

    With `drop_duplicates`, finding any that `splits.plan` does not know starts reading again.
    """

    def __init__(
        self,
        name: str,
        diagnosis: Diagnosis,
        splits: SplitAssigner,
        *,
        max_bad: float,
        drop_duplicates: bool = False,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.report: Report | None = None
        self._name = name
        self._diagnosis = diagnosis
        self._splits = splits
        self._max_bad = max_bad
        self._drop_duplicates = drop_duplicates
        self._redundant = splits.plan.redundant
        self._first: Rejected | None = None

    def items(
        self, records: Iterable[Record | Rejected], *, threads: int, fewest: int = 1
    ) -> Generator[Sound, None, None]:
        """The sound items, each with its split.

        The last step looks at the whole: raises `DataError` where fewer than `fewest` items or too
        small a share of them can be used, `StartAgainError` where the source has to be read once
        more. `records` are those that the diagnosis' account takes.
        """
        row = -1
        with closing(validate_parallel(records, threads=threads)) as results:
            for item in results:
                if isinstance(item, Checked):
                    item = self._splits.assign(item)
                    if item.sound is not None:
                        row += 1
                        if self._redundant is not None and _holds(self._redundant, row):
                            reason = "duplicate of an item that stays"
                            item = item.reject(COPY, reason)
                self._diagnosis.add(item)
                if isinstance(item, Checked) and item.sound is not None:
                    self.counts[item.sound.record.split or ""] += 1
                    yield item.sound
                else:
                    self._note(item)
        self._splits.finish()
        self.report = self._diagnosis.finish()
        self._check_bounds(self.report.folder, fewest)
        if self._drop_duplicates and self._redundant is None and len(self.report.redundant):
            raise StartAgainError(replace(self._splits.plan, redundant=self.report.redundant))

    def _note(self, item: Checked | Rejected) -> None:
        if self._first is None and isinstance(item, Checked):
            reasons = [f.reason for f in item.findings if f.rejected or f.of_caption]
            self._first = Rejected(item.findings[0].item, "; ".join(reasons[:3]))
        elif self._first is None and isinstance(item, Rejected):
            self._first = item

    def _check_bounds(self, folder: Path, fewest: int) -> None:
        account = self._diagnosis.account
        first = f"{self._first.item}: {self._first.reason}" if self._first else "it has no rows"
        where = f"; all are listed in {folder / 'doctor.html'}"
        if account.sound < fewest:
            raise DataError(
                f"{self._name} has no usable item of {account.items:,}; first {first}; mend the"
                f" source{where}"
            )
        if fewest and not self._splits.named and not self.counts["train"]:
            raise DataError(
                f"{self._name}: no item falls into train, for items of one id go into one split:"
                " rename the column 'id', or add a column 'split'"
            )
        if account.bad_share > self._max_bad:
            raise DataError(
                f"{self._name}: {above_bound(account, self._max_bad)}; first {first}; mend them,"
                " or set `max_bad` (data.max_bad) to"
                f" {math.ceil(account.bad_share * 1000) / 1000:g}{where}"
            )


def _holds(rows: NDArray[np.int64], row: int) -> bool:
    """Whether the ascending `rows` hold `row`."""
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row


@dataclass
class SplitAssigner:
    """Gives items their splits, one after the other, while a source of any size is read once.

    Where the source names splits, an item without one is skipped. Where it names none, items are
    split by a hash of their id: 90 % train, 5 % validation, 5 % test. Below 2,000 items either
    held-out split has 100, at most 15 %, for fewer say little; fewer than 20 items are all train.
    With `mixed`, items may name a split where others go
    by the hash.
    """

    plan: Plan
    mixed: bool = False
    _ids: list[str] = field(default_factory=list)
    _count: int = 0

    @property
    def named(self) -> bool:
        """Whether the source names splits, as far as it was read."""
        return bool(self.plan.named)

    def assign(self, checked: Checked) -> Checked:
        """`checked` with its split, or skipped for having none while others do.

        Raises `StartAgainError` where it has one and all before had none.
        """
        sound = checked.sound
        if sound is None:
            return checked
        record = sound.record
        if self.plan.named is None:
            self.plan = replace(self.plan, named=record.split is not None)
        if self.plan.named:
            if record.split is not None:
                return checked
            return checked.reject("split-missing", "split is None, while other rows name one")
        if record.split is not None:
            if self.mixed:
                return checked
            raise StartAgainError(replace(self.plan, named=True, moved=None))
        self._count += 1
        if len(self._ids) < _CERTAIN:
            self._ids.append(record.id)
        split = (self.plan.moved or {}).get(record.id) or split_of(record.id)
        record = replace(record, split=split)
        return replace(checked, sound=replace(sound, record=record), record=record)

    def finish(self) -> None:
        """Call at the end: raises `StartAgainError` where the source is too small for the hash."""
        if self.plan.named or self.plan.moved is not None or self._count >= _CERTAIN:
            return
        moved = _moved(self._ids)
        if moved:
            raise StartAgainError(replace(self.plan, named=False, moved=moved))


def _moved(ids: Sequence[str]) -> dict[str, str]:
    """The items of a small source that go elsewhere than the hash says."""
    splits = {item: split_of(item) for item in ids}
    if len(ids) < _FEWEST_TO_SPLIT:
        return {item: "train" for item, split in splits.items() if split != "train"}
    ranked = sorted(splits, key=hash_fraction)
    held = min(_HELD_OUT, round(_SHARE * len(ranked)))
    assigned = {
        item: "test" if rank < held else "validation" if rank < 2 * held else "train"
        for rank, item in enumerate(reversed(ranked))
    }
    return {item: split for item, split in assigned.items() if split != splits[item]}


class IdIndex:
    """The ids of a store, two unlike hashes of together 96 bits each, and what they stand for.

    Takes 20 bytes a row. Made for `count` rows, which `passing` then notes. Among 10 million ids a
    new one is taken for a known one with a chance of 10^-15. Image and captions are one hash of
    64 bits.
    """

    def __init__(self, count: int) -> None:
        self._hashes = np.empty(count, dtype=np.int64)
        self._sums = np.empty(count, dtype=np.uint32)
        self._contents = np.empty(count, dtype=np.uint64)

    def passing(self, items: Iterable[Known]) -> Iterator[Known]:
        """The `items` of the store as they are, each noted; known once the last is through."""
        for row, item in enumerate(items):
            self._hashes[row] = hash(item.id)
            self._sums[row] = zlib.crc32(item.id.encode())
            self._contents[row] = _content(item.captions, item.content_hash)
            yield item
        order = np.argsort(self._hashes)
        self._hashes, self._sums = self._hashes[order], self._sums[order]
        self._contents = self._contents[order]

    def without(
        self, items: Iterable[Record | Rejected], account: Account
    ) -> Iterator[Record | Rejected]:
        """The `items` that the store does not hold; those that it does are `known` to `account`.

        Where it holds another image or other captions under the same id, the item is skipped:
        two folders may use one file name, and nobody is to lose a photo by that.
        """
        for item in items:
            if isinstance(item, Record) and len(contents := self._under(item.id)):
                if _content(*content_of(item)) in contents:
                    account.known += 1
                    continue
                item = Rejected(item.id, _TAKEN)
            yield item

    def _under(self, item: str) -> NDArray[np.uint64]:
        """What stands in the store under this id: nothing, or one entry."""
        item = storable(item)
        number = np.int64(hash(item))
        first = self._hashes.searchsorted(number, "left")
        last = self._hashes.searchsorted(number, "right")
        same = self._sums[first:last] == zlib.crc32(item.encode())
        contents: NDArray[np.uint64] = self._contents[first:last][same]
        return contents


def _content(captions: Sequence[str], content_hash: str) -> int:
    return int(text_hash([content_hash, *captions])[:16], 16)


def existing_rows(store: Store) -> Iterator[Known]:
    """Every item of `store` in order, read without its image."""
    scanner = store.dataset.scanner(columns=_COLUMNS, batch_size=_ROWS_AT_ONCE)
    for batch in scanner.to_batches():
        columns = (batch.column(name).to_pylist() for name in _COLUMNS)
        for row in zip(*columns, strict=True):
            yield Known(*row)
