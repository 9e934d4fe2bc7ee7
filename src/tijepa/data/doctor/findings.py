"""Findings, counted by kind, a few kept as examples; what is not used goes to the quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tijepa.data.check import Checked, Finding
from tijepa.data.doctor.thumbnails import thumbnail
from tijepa.data.pairs import SetAside

__all__ = ["Example", "FindingBook"]

EXAMPLES = 12  # of each kind
_SHOWN_CAPTION = 200  # characters


@dataclass(frozen=True)
class Example:
    """One finding as it is shown; `picture` is a data URI."""

    item: str
    reference: str
    reason: str
    caption: str
    picture: str | None


class FindingBook:
    """Counts and examples of findings; every item set aside and every caption dropped is a line.

    Memory: at most 12 examples of each kind. It holds the quarantine file open: close it.
    """

    def __init__(self, quarantine: Path) -> None:
        self.items: Counter[str] = Counter()  # by kind, each item once
        self.total: Counter[str] = Counter()  # by kind
        self.examples: dict[str, list[Example]] = {}
        self.setting_aside: set[str] = set()
        self._file = quarantine.open("w", encoding="ascii")

    def close(self) -> None:
        """Close the quarantine file."""
        self._file.close()

    def add(self, checked: Checked) -> None:
        """Note the findings on one item; of one set aside only those that set it aside."""
        if not checked.findings:
            return
        whole = checked.sound is None
        findings = [f for f in checked.findings if f.set_aside or not whole]
        seen: set[str] = set()
        for finding in findings:
            self.total[finding.kind] += 1
            if finding.kind not in seen:
                seen.add(finding.kind)
                self.items[finding.kind] += 1
                self._show(checked, finding)
            if finding.kind.startswith("caption-"):
                self._write("caption", finding, finding.reason)
        if whole:
            self._quarantine_item(findings)

    def add_row(self, row: SetAside) -> None:
        """Note what a reader could not make an item of."""
        finding = Finding(row.item, "", "row-unusable", row.reason, set_aside=True)
        self.items[finding.kind] += 1
        self.total[finding.kind] += 1
        self._show(None, finding)
        self._quarantine_item([finding])

    def summary(self) -> dict[str, Any]:
        """By kind, the most frequent first: numbers and examples, as JSON can hold them."""
        return {
            kind: {
                "items": items,
                "findings": self.total[kind],
                "set_aside": kind in self.setting_aside,
                "examples": [
                    {"item": e.item, "reference": e.reference, "reason": e.reason}
                    for e in self.examples[kind]
                ],
            }
            for kind, items in self.items.most_common()
        }

    def _show(self, checked: Checked | None, finding: Finding) -> None:
        examples = self.examples.setdefault(finding.kind, [])
        if finding.set_aside:
            self.setting_aside.add(finding.kind)
        if len(examples) >= EXAMPLES:
            return
        record = checked.record if checked is not None else None
        texts = record.captions if record is not None else ()
        captions = [text for text in texts if isinstance(text, str) and text.strip()]
        examples.append(
            Example(
                item=finding.item,
                reference=finding.reference,
                reason=finding.reason,
                caption=captions[0][:_SHOWN_CAPTION] if captions else "",
                picture=thumbnail(record.image) if record is not None else None,
            )
        )

    def _quarantine_item(self, findings: Sequence[Finding]) -> None:
        reason = "; ".join(finding.reason for finding in findings)
        self._write("item", findings[0], reason)

    def _write(self, what: str, finding: Finding, reason: str) -> None:
        line = {
            "item": finding.item,
            "reference": finding.reference,
            "what": what,
            "kind": finding.kind,
            "reason": reason,
        }
        self._file.write(json.dumps(line) + "\n")
