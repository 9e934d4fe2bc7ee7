"""Findings, counted by kind, a few kept as examples; what is not used is listed as rejected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tijepa.data.images import MAX_PIXELS
from tijepa.data.pairs import Rejected
from tijepa.data.validation.check import MAX_CAPTION, Checked, Finding
from tijepa.data.validation.thumbnails import thumbnail

__all__ = ["DUPLICATES", "Example", "FindingBook", "Kind", "kind_of"]

EXAMPLES = 12  # of each kind
_SHOWN_CAPTION = 200  # characters


@dataclass(frozen=True)
class Example:
    """One finding as it is shown; `image` is a data URI."""

    item: str
    reference: str
    reason: str
    caption: str
    image: str | None


class FindingBook:
    """Counts and examples of findings; every item skipped and every caption dropped is a line.

    Memory: at most 12 examples of each kind. It holds the file of rejected items open: close it.
    """

    def __init__(self, rejected_path: Path) -> None:
        self.items: Counter[str] = Counter()  # by kind, each item once
        self.total: Counter[str] = Counter()  # by kind
        self.examples: dict[str, list[Example]] = {}
        self.rejecting: set[str] = set()
        self._file = rejected_path.open("w", encoding="ascii")

    def close(self) -> None:
        """Close the file of rejected items."""
        self._file.close()

    def add(self, checked: Checked) -> None:
        """Note the findings on one item; of one skipped only those that set it aside."""
        if not checked.findings:
            return
        whole = checked.sound is None
        findings = [f for f in checked.findings if f.rejected or not whole]
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
            self._list_rejected(findings)

    def add_row(self, row: Rejected) -> None:
        """Note what a reader could not make an item of."""
        finding = Finding(row.item, "", "row-unusable", row.reason, rejected=True)
        self.items[finding.kind] += 1
        self.total[finding.kind] += 1
        self._show(None, finding)
        self._list_rejected([finding])

    def summary(self) -> dict[str, Any]:
        """By kind, the most frequent first: numbers and examples, as JSON can hold them."""
        return {
            kind: {
                "items": items,
                "findings": self.total[kind],
                "rejected": kind in self.rejecting,
                "examples": [
                    {"item": e.item, "reference": e.reference, "reason": e.reason}
                    for e in self.examples[kind]
                ],
            }
            for kind, items in self.items.most_common()
        }

    def _show(self, checked: Checked | None, finding: Finding) -> None:
        examples = self.examples.setdefault(finding.kind, [])
        if finding.rejected:
            self.rejecting.add(finding.kind)
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
                image=thumbnail(record.image) if record is not None else None,
            )
        )

    def _list_rejected(self, findings: Sequence[Finding]) -> None:
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


# Every kind of finding in words: what it is, what it means, what to do.


_AGAIN = "Export or download the file again; the item is not used until then."
_NOTHING = "Nothing needs to be done."


@dataclass(frozen=True)
class Kind:
    """`title` heads a list, `meaning` says what it does to training, `remedy` what helps."""

    title: str
    meaning: str
    remedy: str


_KINDS = {
    "row-unusable": Kind(
        "Rows that give no item",
        "The reader could not make an item of the row: see its reason.",
        "Mend the row in the source.",
    ),
    "item-empty": Kind(
        "Items with neither image nor caption",
        "There is nothing to learn from.",
        "Remove the row, or fill it in.",
    ),
    "image-empty": Kind("Images without bytes", "The file is empty.", _AGAIN),
    "image-unknown-format": Kind(
        "Files that are no image",
        "The bytes are of no known image format, whatever the file is called.",
        "Convert them to JPEG, PNG or WebP.",
    ),
    "image-header-damaged": Kind(
        "Images with a damaged header", "Size and format cannot be read.", _AGAIN
    ),
    "image-truncated": Kind("Truncated images", "The file ends before the image does.", _AGAIN),
    "image-damaged": Kind(
        "Damaged images", "The header is sound, but the pixels cannot be decoded.", _AGAIN
    ),
    "image-too-large": Kind(
        "Images above the pixel bound",
        f"More than {MAX_PIXELS:,} pixels by their header: a large scan, or a decompression bomb.",
        "Scale them down.",
    ),
    "image-float": Kind(
        "Images of floating-point pixels",
        "It is not known which value is white.",
        "Save them with 8 bits a channel.",
    ),
    "captions-all-invalid": Kind(
        "Items that lost all captions",
        "None of their captions is usable text, and a pair must not silently become an image"
        " alone.",
        "Mend the captions, or leave them out to use the image alone.",
    ),
    "caption-not-text": Kind(
        "Captions that are no text",
        "A number, list or the like stands in the caption's place; that caption is dropped.",
        "Mend the column, or name another with --caption-column.",
    ),
    "caption-blank": Kind(
        "Blank captions", "Nothing but white space; that caption is dropped.", _NOTHING
    ),
    "caption-too-long": Kind(
        "Very long captions",
        f"More than {MAX_CAPTION:,} characters: rather a document; that caption is dropped.",
        "Shorten them, or name another column with --caption-column.",
    ),
    "caption-invalid-unicode": Kind(
        "Captions of invalid Unicode",
        "Half of a surrogate pair, from a broken export; that caption is dropped.",
        "Export the captions as UTF-8.",
    ),
    "image-animated": Kind(
        "Animated or multi-page images", "Only the first frame or page is used.", _NOTHING
    ),
    "image-rotated": Kind(
        "Images rotated by EXIF", "They are turned upright whenever they are read.", _NOTHING
    ),
    "image-cmyk": Kind(
        "CMYK images",
        "Colours for print, converted to RGB without a colour profile: they may look too bright.",
        "Convert them to sRGB if colours matter.",
    ),
    "image-16-bit": Kind(
        "Images of 16 bits a channel", "The high 8 bits are used; dark detail may go.", _NOTHING
    ),
    "image-alpha": Kind(
        "Transparent images",
        "They are put on white: white drawings on transparent ground vanish.",
        "Put those on a darker ground.",
    ),
    "image-palette": Kind(
        "Palette images", "They are converted to RGB when they are read.", _NOTHING
    ),
    "image-tiny": Kind(
        "Tiny images",
        "A side is below 16 pixels: enlarged, they show hardly anything.",
        "Remove them if they are icons or placeholders.",
    ),
    "image-extreme-aspect": Kind(
        "Very wide or tall images",
        "A side is more than 8 times the other: a square crop shows little of them.",
        "Cut them into parts if they matter.",
    ),
    "duplicate-skipped": Kind(
        "Copies skipped",
        "Another item with the same image stays, as --duplicates skip asks for.",
        _NOTHING,
    ),
    "duplicate-item": Kind(
        "Items that stand more than once in a split",
        "The same image with the same captions (or the same text alone) is trained on more often,"
        " or counted more often in an evaluation.",
        "Prepare with --duplicates skip: the first of each group stays.",
    ),
    "duplicate-image": Kind(
        "Images that stand more than once in a split",
        "The same file has several items with different captions. In retrieval only one of them"
        " counts as right.",
        "Merge their captions into one item.",
    ),
    "image-in-two-splits": Kind(
        "Images that stand in two splits",
        "What is measured on them was seen in training: figures come out too good.",
        "Prepare with --duplicates skip: the copy in test stays before that in validation,"
        " that before train.",
    ),
    "near-duplicate": Kind(
        "Images that look alike",
        "Different files of nearly the same look: other sizes, other compression, or the same scene"
        " a moment later. Found by a coarse hash, so some groups may only resemble each other.",
        "Look at them; remove copies in the source.",
    ),
    "near-in-two-splits": Kind(
        "Images that look alike in two splits",
        "A near copy of what is measured may have been seen in training. Found by a coarse hash.",
        "Look at them; move or remove copies in the source.",
    ),
}

DUPLICATES = (
    "image-in-two-splits",
    "near-in-two-splits",
    "duplicate-item",
    "duplicate-image",
    "near-duplicate",
)


def kind_of(slug: str) -> Kind:
    """The words for a kind; its slug as title where it is a new one."""
    return _KINDS.get(slug, Kind(slug.replace("-", " ").capitalize(), "", ""))
