"""What a diagnosis gives: findings by kind with examples, the verdict, what to run next."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tijepa.data.images import MAX_PIXELS, viewable
from tijepa.data.pairs import Rejected
from tijepa.data.records import Account, ReaderOptions, Record
from tijepa.data.validation.check import MAX_CAPTION, Checked, Finding
from tijepa.io.page import thumbnail

EXAMPLES = 12  # of each kind
_SIDE = 180  # pixels of the longer side of an image on the page
_SHOWN_CAPTION = 200  # characters
DUPLICATES = (
    "image-in-two-splits",
    "near-in-two-splits",
    "duplicate-item",
    "duplicate-image",
    "near-duplicate",
)


@dataclass(frozen=True)
class Example:
    """One finding as it is shown; `image` is a data URI."""

    item: str
    reference: str
    reason: str
    caption: str
    image: str | None


def small_image(data: bytes | None) -> str | None:
    """A small image as data URI, also of what is left of a damaged one; None without any."""
    return thumbnail(viewable(data, _SIDE), _SIDE)


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
                self._show(finding, checked.record)
            if finding.of_caption:
                self._write("caption", finding, finding.reason)
        if whole:
            self._list_rejected(findings)

    def add_row(self, row: Rejected) -> None:
        """Note what a reader could not make an item of."""
        kind = "row-unusable" if row.samples else "part-unread"
        finding = Finding(row.item, "", kind, row.reason, rejected=row.samples > 0)
        self.items[finding.kind] += row.samples
        self.total[finding.kind] += row.samples
        self._show(finding)
        self._list_rejected([finding])

    def note(self, kind: str, items: int, example: str, reason: str) -> None:
        """Note what is found of `items` items together."""
        self.items[kind] = self.total[kind] = items
        self._show(Finding(example, "", kind, reason, rejected=False))

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

    def _show(self, finding: Finding, record: Record | None = None) -> None:
        examples = self.examples.setdefault(finding.kind, [])
        if finding.rejected:
            self.rejecting.add(finding.kind)
        if len(examples) >= EXAMPLES:
            return
        texts = record.captions if record is not None else ()
        captions = [text for text in texts if isinstance(text, str) and text.strip()]
        examples.append(
            Example(
                item=finding.item,
                reference=finding.reference,
                reason=finding.reason,
                caption=captions[0][:_SHOWN_CAPTION] if captions else "",
                image=small_image(record.image if record is not None else None),
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


@dataclass(frozen=True)
class Kind:
    """A kind of finding in words.

    `title` heads a list, `meaning` says what it does to training, `remedy` what helps.
    """

    title: str
    meaning: str
    remedy: str


def kind_of(slug: str) -> Kind:
    """The words for a kind; its slug as title where it is a new one."""
    return _kinds().get(slug, Kind(slug.replace("-", " ").capitalize(), "", ""))


@cache
def _kinds() -> dict[str, Kind]:
    text = resources.files("tijepa.data.validation").joinpath("findings.yaml").read_text("utf-8")
    bounds = {"max_pixels": MAX_PIXELS, "max_caption": MAX_CAPTION}
    return {
        slug: Kind(**{name: part.format(**bounds) for name, part in words.items()})
        for slug, words in yaml.safe_load(text).items()
    }


@dataclass(frozen=True)
class GroupExample:
    """One group of duplicates as it is shown: ids, their splits, and data URIs or None."""

    items: tuple[str, ...]
    splits: tuple[str, ...]
    images: tuple[str | None, ...]
    size: int


@dataclass(frozen=True)
class Report:
    """`facts` is what doctor.json holds; examples carry thumbnails for the page.

    `redundant` are the rows (numbers among the sound items, in their order, from 0) that go where
    duplicates are skipped.
    """

    fit: bool
    folder: Path
    facts: Mapping[str, Any]
    redundant: NDArray[np.int64]
    examples: Mapping[str, Sequence[Example]]
    groups: Mapping[str, Sequence[GroupExample]]


def unfit_reasons(account: Account, max_bad: float) -> list[str]:
    """Why a source cannot be trained on as it is; empty where it can."""
    if not account.items:
        return ["the source holds no item"]
    if not account.sound:
        return [f"none of its {account.items:,} items can be used"]
    reasons = [] if account.bad_share <= max_bad else [above_bound(account, max_bad)]
    if not account.pairs:
        reasons.append("no item has both an image and a caption")
    return reasons


def above_bound(account: Account, max_bad: float) -> str:
    """That too large a share of a source is broken."""
    return (
        f"{account.rejected - account.copies:,} of {account.items:,} items"
        f" ({account.bad_share:.2%}) are broken, above the bound of {max_bad:.2%}"
    )


def commands(
    source: str,
    arguments: Sequence[str],
    account: Account,
    *,
    max_bad: float,
    redundant: int,
    fit: bool,
    store: str | None = None,
) -> list[dict[str, str]]:
    """What to run next and why: what fixes the source, or what prepares it.

    `arguments` are the options by which the source has to be read, such as --image-column. Where it
    is added to a `store`, its copies go by making another store of that one.
    """
    is_store = source.endswith(".lance")
    name = Path(source).name.removesuffix(".lance") or "pairs"

    def prepare(out: str, *more: str) -> str:
        words = ["tijepa", "prepare", source, "--out", f"{out}.lance", *arguments]
        return shlex.join([*words, *more])

    found: list[dict[str, str]] = []

    def propose(why: str, command: str) -> None:
        found.append({"why": why, "command": command})

    allowed: list[str] = []
    if account.sound and account.bad_share > max_bad:
        allowed = ["--max-bad", f"{math.ceil(account.bad_share * 1000) / 1000:g}"]
        why = "To go on without the broken items (better: mend them)"
        propose(why, prepare(f"{name}-clean" if is_store else name, *allowed))
    if redundant and account.pairs:
        why = f"To skip the {redundant:,} redundant items"
        copies = ["--duplicates", "skip"]
        again = prepare(f"{name}-clean", *allowed, *copies)
        propose(why, again if store is None else _again(store, *copies))
    if fit and not found and is_store:
        propose("To train on it", train_command(source))
    elif fit and not found:
        propose("To make a pair store of it", prepare(name))
    return found


def reading_words(reader: str | None, options: ReaderOptions) -> list[str]:
    """The words of a command line by which a source is read so; what is None is left out."""
    given = {"reader": reader, **asdict(options)}
    return [
        word
        for name, value in given.items()
        for one in ((value,) if isinstance(value, str) else value or ())
        for word in (f"--{name.replace('_', '-')}", one)
    ]


def train_command(store: str) -> str:
    """The command that trains on a store of photos."""
    return shlex.join(["tijepa", "train", "--data", store])


def _again(store: str, *more: str) -> str:
    """The command that makes another store of `store`."""
    name = Path(store.rstrip("/")).name.removesuffix(".lance")
    return shlex.join(["tijepa", "prepare", store, "--out", f"{name}-clean.lance", *more])
