"""One reading of a source: records are checked, given splits, diagnosed and handed on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tijepa.data.pairs import Rejected
from tijepa.data.records import Record, hash_fraction, split_of
from tijepa.data.validation import Diagnosis, Report
from tijepa.data.validation.check import Checked, Finding, Sound, validate_parallel
from tijepa.errors import DataError


class RedundantError(Exception):
    """The source holds duplicates that are to be skipped; `rows` are their numbers."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        super().__init__(f"{len(rows)} redundant items")
        self.rows = rows


class Intake:
    """Reads a source once. `counts` and `rejected` grow meanwhile; `report` is there at the end.

    `redundant` are the rows (numbers among the sound items) to skip as duplicates; where it is
    None and `drop_duplicates`, finding any raises `RedundantError`.
    """

    def __init__(
        self,
        name: str,
        diagnosis: Diagnosis,
        settler: SplitSettler,
        *,
        max_bad: float,
        drop_duplicates: bool = False,
        redundant: NDArray[np.int64] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.rejected = 0
        self.report: Report | None = None
        self._name = name
        self._diagnosis = diagnosis
        self._settler = settler
        self._max_bad = max_bad
        self._drop_duplicates = drop_duplicates
        self._redundant = redundant
        self._first: Rejected | None = None

    def items(
        self,
        records: Iterable[Record | Rejected],
        *,
        threads: int,
        advance: Callable[[int], None],
        fewest: int = 1,
    ) -> Iterator[Sound]:
        """The sound items, each with its split.

        The last step judges the whole: raises `DataError` where fewer than `fewest` items or too
        small a share of them can be used, `StartAgainError` and `RedundantError` where the source
        has to be read once more. `advance` is told of every record.
        """
        row = -1
        with closing(validate_parallel(records, threads=threads)) as judged_items:  # type: ignore[type-var]
            for judged in judged_items:
                if isinstance(judged, Checked):
                    judged = self._settler.settle(judged)
                    if judged.sound is not None:
                        row += 1
                        judged = self._without_redundant(judged, row)
                self._diagnosis.add(judged)
                advance(1)
                if isinstance(judged, Checked) and judged.sound is not None:
                    self.counts[judged.sound.record.split or ""] += 1
                    yield judged.sound
                else:
                    self._note(judged)
        self._settler.finish()
        self.report = self._diagnosis.finish()
        self._judge(self.report.folder, fewest)
        if self._drop_duplicates and self._redundant is None and len(self.report.redundant):
            raise RedundantError(self.report.redundant)

    def _without_redundant(self, checked: Checked, row: int) -> Checked:
        if self._redundant is None or not _holds(self._redundant, row):
            return checked
        assert checked.sound is not None
        record = checked.sound.record
        finding = Finding(
            record.id,
            record.reference,
            "duplicate-skipped",
            "duplicate of an item that stays",
            True,
        )
        return replace(checked, sound=None, findings=(*checked.findings, finding))

    def _note(self, judged: Checked | Rejected) -> None:
        self.rejected += 1
        if self._first is None:
            if isinstance(judged, Checked):
                reasons = [
                    finding.reason
                    for finding in judged.findings
                    if finding.rejected or finding.kind.startswith("caption-")
                ]
                judged = Rejected(judged.findings[0].item, "; ".join(reasons[:3]))
            self._first = judged

    def _judge(self, folder: Path, fewest: int) -> None:
        usable, bad = self.counts.total(), self.rejected
        if self._redundant is not None:
            bad -= len(self._redundant)  # nothing is wrong with these
        first = f"{self._first.item}: {self._first.reason}" if self._first else "it has no rows"
        where = f"; all are listed in {folder / 'doctor.html'}"
        if usable < fewest:
            raise DataError(
                f"{self._name} has no usable item of {bad:,}; first {first}; mend the source{where}"
            )
        share = bad / (bad + usable) if bad else 0.0
        if share > self._max_bad:
            raise DataError(
                f"{self._name}: {bad:,} of {bad + usable:,} items ({share:.2%}) are broken, above "
                f"the bound of {self._max_bad:.2%}; first {first}; mend them, or allow more with "
                f"{math.ceil(share * 1000) / 1000:g} for `max_bad` or data.max_bad{where}"
            )


def _holds(rows: NDArray[np.int64], row: int) -> bool:
    """Whether the ascending `rows` hold `row`."""
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row


# Which split an item goes into, decided while a source of any size is read once.
#
# Where the source names splits, an item without one is skipped. Where it names none, items are
# split by a hash of their id: 90 % train, 5 % validation, 5 % test; fewer than 20 items are all
# train, and from 20 on no split is empty. What only the end of a source tells makes reading start
# again.


_FEWEST_TO_SPLIT = 20
_CERTAIN = 2000  # items beyond which an empty split has a chance below 10^-44


@dataclass(frozen=True)
class SplitPlan:
    """What is known before reading.

    `named`: whether the source names splits; None where its first item decides. `moved`: splits
    of single items of a small source that the hash does not decide; None where that is not known.
    """

    named: bool | None = None
    moved: Mapping[str, str] | None = None


class StartAgainError(Exception):
    """The items read so far were split by a rule that turned out not to be theirs."""

    def __init__(self, plan: SplitPlan) -> None:
        super().__init__("the splits are settled otherwise")
        self.plan = plan


@dataclass
class SplitSettler:
    """Gives items their splits, one after the other.

    With `mixed`, items may name a split where others go by the hash.
    """

    plan: SplitPlan
    mixed: bool = False
    _ids: list[str] = field(default_factory=list)
    _count: int = 0

    @property
    def named(self) -> bool:
        """Whether the source names splits, as far as it was read."""
        return bool(self.plan.named)

    def settle(self, checked: Checked) -> Checked:
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
            reason = "split is None, while other rows name one"
            finding = Finding(record.id, record.reference, "split-missing", reason, True)
            return replace(checked, sound=None, findings=(*checked.findings, finding))
        if record.split is not None:
            if self.mixed:
                return checked
            raise StartAgainError(SplitPlan(named=True))
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
            raise StartAgainError(SplitPlan(named=False, moved=moved))


def _moved(ids: Sequence[str]) -> dict[str, str]:
    """The items of a small source that go elsewhere than the hash says."""
    splits = {item: split_of(item) for item in ids}
    if len(ids) < _FEWEST_TO_SPLIT:
        return {item: "train" for item, split in splits.items() if split != "train"}
    ranked = sorted(splits, key=hash_fraction)
    settled = dict(splits)
    if "test" not in splits.values():
        settled[ranked[-1]] = "test"
    if "validation" not in settled.values():
        train = [item for item in ranked if settled[item] == "train"]
        settled[train[-1]] = "validation"
    return {item: split for item, split in settled.items() if split != splits[item]}
