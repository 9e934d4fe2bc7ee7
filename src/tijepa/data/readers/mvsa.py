"""MVSA as published: `labelResultAll.txt` and `data/ID.jpg` with `data/ID.txt`, a tweet each.

The table (mcrlab.net, "Sentiment Analysis on Multi-view Social Data", Niu et al. 2016) has a line
an ID and, behind tabs, one judgement "text,image" of an annotator (MVSA-Single) or of three
(MVSA-Multi):

    ID	text,image	text,image	text,image
    1	positive,neutral	positive,positive	negative,neutral

`label` is the sentiment of the pair by the usual cleaning (Xu and Mao 2017): of several annotators
what most say of the text, and what most say of the image; then a neutral one follows the other,
and two that contradict each other, or without a majority, leave the pair without a label. It
stays a pair all the same. `text_label` and `image_label` are those of either modality. Nobody
published splits: 8 : 1 : 1 by a hash of the ID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tijepa.data.pairs import Rejected
from tijepa.data.readers.files import digest_of_files, read_file
from tijepa.data.records import Reader, ReaderOptions, Record, hash_fraction
from tijepa.errors import DataError
from tijepa.registry import register

_TABLE = "labelResultAll.txt"
_LABELS = ("negative", "neutral", "positive")


@register("reader", "mvsa")
class MvsaReader(Reader):
    """Tweets with images and sentiments."""

    name: ClassVar[str] = "mvsa"
    priority: ClassVar[int] = 50
    layout: ClassVar[str] = "MVSA's labelResultAll.txt beside its folder data"
    follows: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, source: str, options: ReaderOptions) -> None:
        self._root = Path(source)
        self._rows: list[tuple[int, str, list[tuple[str, str]]]] = []  # line, ID, judgements
        self._broken: list[Rejected] = []
        try:
            lines = read_file(self._root / _TABLE).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DataError(f"{self._root / _TABLE} is not UTF-8 text: get it anew") from None
        except DataError as error:
            raise DataError(f"{self._root / _TABLE}: {error}; name the folder it is in") from None
        for number, line in enumerate(lines[1:], start=2):
            if line.strip():
                self._read_line(number, line)
        if not self._rows:
            raise DataError(f"{self._root / _TABLE} names no pair: get it anew")

    @classmethod
    def recognises(cls, source: str) -> bool:
        """By the two names."""
        try:
            root = Path(source)
            return (root / _TABLE).is_file() and (root / "data").is_dir()
        except (OSError, ValueError):
            return False

    def __iter__(self) -> Iterator[Record | Rejected]:
        yield from self._broken
        for line, name, judgements in self._rows:
            try:
                image = read_file(self._root / "data" / f"{name}.jpg")
                text = read_file(self._root / "data" / f"{name}.txt")
            except DataError as error:
                yield Rejected(name, f"line {line}: {error}")
                continue
            text_label, image_label = (
                majority(list(said)) for said in zip(*judgements, strict=True)
            )
            labels = {
                "label": pair_label(text_label, image_label),
                "text_label": text_label,
                "image_label": image_label,
            }
            yield Record(
                id=name,
                reference=f"{_TABLE}:{line}",
                image=image,
                captions=(_tweet(text),),
                split=_split(name),
                extra={column: label for column, label in labels.items() if label is not None},
            )

    def describe(self) -> str:
        """See `Reader.describe`."""
        annotators = max(len(judgements) for _, _, judgements in self._rows)
        said = "one annotator" if annotators == 1 else f"most of {annotators} annotators"
        return f"{self._root}: MVSA, label from text and image as {said} said, splits by a hash"

    def fingerprint(self) -> str:
        """Of the table, the texts and the images."""
        names = [f"data/{name}.{ending}" for _, name, _ in self._rows for ending in ("jpg", "txt")]
        return digest_of_files(self._root, [_TABLE, *names])

    def count(self) -> int | None:
        """Lines with a label."""
        return len(self._rows) + len(self._broken)

    def _read_line(self, number: int, line: str) -> None:
        name, *cells = (cell.strip() for cell in line.split("\t"))
        judgements = []
        for cell in cells:
            text, _, image = (part.strip().lower() for part in cell.partition(","))
            if text not in _LABELS or image not in _LABELS:
                reason = f"line {number}: {cell[:80]!r} is no pair of {', '.join(_LABELS)}"
                self._broken.append(Rejected(name or f"line {number}", reason))
                return
            judgements.append((text, image))
        if not name.isalnum() or not judgements:
            reason = f"line {number}: not an ID and its judgements, parted by tabs"
            self._broken.append(Rejected(name or f"line {number}", reason))
            return
        self._rows.append((number, name, judgements))


def majority(labels: list[str]) -> str | None:
    """The label that more than half of `labels` are; None where none is."""
    label, count = Counter(labels).most_common(1)[0]
    return label if 2 * count > len(labels) else None


def pair_label(text: str | None, image: str | None) -> str | None:
    """What both modalities say, a neutral one giving way; None where they contradict each other."""
    if text is None or image is None:
        return None
    if text == image or image == "neutral":
        return text
    return image if text == "neutral" else None


def _tweet(data: bytes) -> str:
    """The text on one line; bytes that are not UTF-8 are read as Windows-1252 or Latin-1."""
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return " ".join(data.decode(encoding).split())
        except UnicodeDecodeError:
            continue
    return " ".join(data.decode("latin-1").split())


def _split(name: str) -> str:
    fraction = hash_fraction(name)
    return "train" if fraction < 0.8 else "validation" if fraction < 0.9 else "test"
