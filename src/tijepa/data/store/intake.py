"""One reading of a source: records are checked, given splits, diagnosed and handed on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tijepa.data.check import Checked, Finding, Sound
from tijepa.data.doctor import Diagnosis, Report
from tijepa.data.examine import examine
from tijepa.data.pairs import SetAside
from tijepa.data.records import Record
from tijepa.data.store.settle import SplitSettler
from tijepa.errors import DataError

__all__ = ["Intake", "RedundantError"]


class RedundantError(Exception):
    """The source holds duplicates that are to be set aside; `rows` are their numbers."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        super().__init__(f"{len(rows)} redundant items")
        self.rows = rows


class Intake:
    """Reads a source once. `counts` and `set_aside` grow meanwhile; `report` is there at the end.

    `redundant` are the rows (numbers among the sound items) to set aside as duplicates; where it is
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
        self.set_aside = 0
        self.report: Report | None = None
        self._name = name
        self._diagnosis = diagnosis
        self._settler = settler
        self._max_bad = max_bad
        self._drop_duplicates = drop_duplicates
        self._redundant = redundant
        self._first: SetAside | None = None

    def items(
        self,
        records: Iterable[Record | SetAside],
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
        with closing(examine(records, threads=threads)) as judged_items:  # type: ignore[type-var]
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
            "duplicate-set-aside",
            "duplicate of an item that stays (--duplicates set-aside)",
            True,
        )
        return replace(checked, sound=None, findings=(*checked.findings, finding))

    def _note(self, judged: Checked | SetAside) -> None:
        self.set_aside += 1
        if self._first is None:
            if isinstance(judged, Checked):
                reasons = [
                    finding.reason
                    for finding in judged.findings
                    if finding.set_aside or finding.kind.startswith("caption-")
                ]
                judged = SetAside(judged.findings[0].item, "; ".join(reasons[:3]))
            self._first = judged

    def _judge(self, folder: Path, fewest: int) -> None:
        usable, bad = self.counts.total(), self.set_aside
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
                f"{math.ceil(share * 1000) / 1000:g} for --max-bad or data.max_bad{where}"
            )


def _holds(rows: NDArray[np.int64], row: int) -> bool:
    """Whether the ascending `rows` hold `row`."""
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row
