"""Collects what the check says item by item, and makes a report of it in the end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tijepa.data.images import MAX_PIXELS
from tijepa.data.pairs import Rejected, rejected_file
from tijepa.data.readers import open_reader
from tijepa.data.records import Account, Reader, ReaderOptions, Record
from tijepa.data.validation.check import MAX_CAPTION, Checked, Sound, validate_parallel
from tijepa.data.validation.duplicates import Duplicates, Fingerprints, Known
from tijepa.data.validation.image_check import EXTREME_ASPECT, TINY
from tijepa.data.validation.near import NEAR_DISTANCE
from tijepa.data.validation.page import write_doctor_page
from tijepa.data.validation.report import (
    DUPLICATES,
    FindingBook,
    GroupExample,
    Report,
    commands,
    reading_words,
    small_image,
    unfit_reasons,
)
from tijepa.data.validation.statistics import (
    CaptionStatistics,
    IdBook,
    ImageStatistics,
    LabelStatistics,
    caption_hash,
)
from tijepa.errors import DataError
from tijepa.io.files import write_whole
from tijepa.io.progress import SILENT, Reporter

ImagesOf = Callable[[Collection[str]], Mapping[str, bytes]]

_REJECTED = "rejected.jsonl"
_LISTED_GROUPS = 1_000  # of each kind, in doctor.json
_LISTED_ITEMS = 50  # of each such group
_SHOWN_GROUPS = 12  # of each kind, with images, on the page
_SHOWN_ITEMS = 4
_MOST_SPLITS = 1_000
_NO_SPLIT = "(no split)"
_COUNTED = ("items", "pairs", "images_only", "texts_only", "captions")


def doctor(
    source: str,
    out: str | Path | None = None,
    *,
    reader: str | None = None,
    image_column: str | None = None,
    caption_column: str | Sequence[str] | None = None,
    split_column: str | None = None,
    max_bad: float = 0.01,
    max_tokens: int | None = None,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """Examine the pairs of `source`, and write a report into the folder `out`.

    Every image is decoded, every caption looked at, and duplicates are sought; nothing is changed.
    `source` is a folder, file, pair store or data set of the Hugging Face hub, read by `reader`
    (told by its files where None) with the columns that are named. Broken items above the share
    `max_bad` make it unfit; with `max_tokens` the captions that a tokenizer would cut are counted.
    `threads` decode, as many as there are cores where None. `out` is NAME.doctor in the working
    folder where None.

        report = tijepa.doctor("photos")
        report.fit, report.facts["counts"]

    Raises `DataError` where the source cannot be read or `out` holds something else, and
    `ConfigError` for an option that has no effect.
    """
    options = ReaderOptions.of(image_column, caption_column, split_column)
    name = Path(source).name or Path(source).resolve().name or "source"
    return diagnose(
        open_reader(source, reader=reader, options=options),
        Path(f"{name}.doctor") if out is None else Path(out),
        source=source,
        arguments=reading_words(reader, options),
        max_bad=max_bad,
        max_tokens=max_tokens,
        threads=(os.cpu_count() or 1) if threads is None else threads,
        reporter=reporter,
    )


def diagnose(
    reader: Reader,
    folder: Path,
    *,
    source: str,
    arguments: Sequence[str] = (),
    max_bad: float,
    max_tokens: int | None,
    threads: int,
    reporter: Reporter = SILENT,
) -> Report:
    """Examine every item of `reader` and write the report into `folder`.

    The source is read a second time, without decoding, up to the last duplicate that is shown.
    Raises `DataError` if `folder` is a file or holds something else than an earlier report.
    """
    _check_folder(folder)
    with Diagnosis(
        folder,
        source=source,
        description=reader.describe(),
        arguments=arguments,
        max_bad=max_bad,
        max_tokens=max_tokens,
    ) as diagnosis:
        diagnosis.account.held = reader.count()
        with reporter.bar("examining", diagnosis.account.held) as advance:
            taken = diagnosis.account.taking(reader, advance)
            with closing(validate_parallel(taken, threads=threads)) as items:
                for item in items:
                    diagnosis.add(item)
        return diagnosis.finish(lambda ids: _images(reader, ids))


class Diagnosis:
    """Takes every item of a source once, in order, and writes three files into `folder`.

    rejected.jsonl grows while items come in; doctor.json and doctor.html are written by
    `finish`. Memory: 35 bytes and the deflated id (3 bytes where ids are numbered) for each item,
    about 100 MB for captions whatever their number, and while duplicates are sought 50 bytes an
    item more: below 1 GiB for 10 million items, unless most of them are copies (see `duplicates`).

    An error or an interrupt leaves the lines that were written; without any, no folder.

    `source` and `arguments` (options by which it is read) go into the commands that are proposed;
    `store` is the one that the items are added to, whose own items `know` takes before all others.
    Close it or use it as a context manager.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: str,
        description: str,
        arguments: Sequence[str] = (),
        store: str | None = None,
        max_bad: float = 0.01,
        max_tokens: int | None = None,
    ) -> None:
        self._new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._source = source
        self._description = description
        self._arguments = tuple(arguments)
        self._store = store
        self._max_bad = max_bad
        self._max_tokens = max_tokens
        self._findings = FindingBook(folder / _REJECTED)
        self._captions = CaptionStatistics(max_tokens)
        self._images = ImageStatistics()
        self._labels = LabelStatistics()
        self._fingerprints = Fingerprints()
        self._ids = IdBook()
        self._split_codes = {_NO_SPLIT: 0}
        self._splits: list[dict[str, int]] = [dict.fromkeys(_COUNTED, 0)]
        self.account = Account()

    def __enter__(self) -> Diagnosis:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        rejected_path = self._folder / _REJECTED
        if error is not None and self._new and not rejected_path.stat().st_size:
            rejected_path.unlink()
            with suppress(OSError):  # it holds more
                self._folder.rmdir()

    def close(self) -> None:
        """Close the file of rejected items; what is in it stays."""
        self._findings.close()

    def know(self, items: Iterable[Known]) -> None:
        """Note all items that stand in the store already: duplicates of them are found."""
        for item in items:
            code = self._split_code(item.split)
            self._fingerprints.append(
                item.content_hash, item.look, code, [caption_hash(text) for text in item.captions]
            )
            self._ids.append(item.id)
        self._fingerprints.end_of_known()

    def add(self, item: Checked | Rejected) -> None:
        """Note one item of the source."""
        if isinstance(item, Rejected):
            self.account.rejected += item.samples
            self._findings.add_row(item)
            return
        self._findings.add(item)
        if item.sound is None:
            self.account.rejected += 1
            self.account.copies += item.is_copy
        else:
            self._add_sound(item.sound)

    def finish(self, images_of: ImagesOf | None = None) -> Report:
        """Find the duplicates, judge, and write doctor.json and doctor.html.

        `images_of` gives the image bytes of items by id, for thumbnails of duplicates.
        """
        self.close()
        self.account.settle()
        names = list(self._split_codes)
        self._note_of_whole(names)
        duplicates = self._fingerprints.duplicates(names)
        listed, shown = self._groups(duplicates, names, images_of)
        counts = self._counts()
        reasons = unfit_reasons(self.account, self._max_bad)
        redundant = len(duplicates.redundant)
        proposed = commands(
            self._source,
            self._arguments,
            self.account,
            max_bad=self._max_bad,
            redundant=redundant,
            fit=not reasons,
            store=self._store,
        )
        facts: dict[str, Any] = {
            "version": 1,
            "source": self._source,
            "description": self._description,
            "verdict": "unfit" if reasons else "fit",
            "reasons": reasons,
            "counts": counts,
            "splits": {
                name: numbers
                for name, numbers in zip(names, self._splits, strict=True)
                if numbers["items"]
            },
            "findings": self._findings.summary(),
            "duplicates": listed,
            "redundant_items": redundant,
            "images_too_plain_to_compare": duplicates.plain,
            "captions": self._captions.summary(),
            "images": self._images.summary(),
            "labels": self._labels.summary(),
            "thresholds": {
                "max_bad": self._max_bad,
                "max_tokens": self._max_tokens,
                "max_caption_characters": MAX_CAPTION,
                "max_pixels": MAX_PIXELS,
                "tiny_below": TINY,
                "extreme_aspect_above": EXTREME_ASPECT,
                "near_distance": NEAR_DISTANCE,
            },
            "commands": proposed,
        }
        report = Report(
            fit=not reasons,
            folder=self._folder,
            facts=facts,
            redundant=duplicates.redundant,
            examples=self._findings.examples,
            groups=shown,
        )
        shown_facts = json.dumps(facts, indent=1, allow_nan=False) + "\n"
        write_whole(self._folder / "doctor.json", shown_facts.encode())
        write_doctor_page(self._folder / "doctor.html", report)
        return report

    def _add_sound(self, sound: Sound) -> None:
        code = self._split_code(sound.record.split)
        counted = self._splits[code]
        counted["items"] += 1
        counted["captions"] += len(sound.captions)
        if sound.image is None:
            counted["texts_only"] += 1
            self.account.texts_only += 1
        else:
            if sound.captions:
                counted["pairs"] += 1
                self.account.pairs += 1
            else:
                counted["images_only"] += 1
                self.account.images_only += 1
            self._images.add(sound.image)
        hashes = self._captions.add(sound.captions, code)
        look = None if sound.image is None else sound.image.difference_hash
        self._fingerprints.append(sound.content_hash, look, code, hashes)
        self._ids.append(sound.record.id)
        if sound.record.extra:
            self._labels.add(sound.record.extra)

    def _note_of_whole(self, splits: Sequence[str]) -> None:
        """What only all items together show."""
        twice, items = self._ids.repeated(), self.account.items
        if len(twice):
            example = self._ids.look_up([int(twice[0])])[int(twice[0])]
            reason = f"{len(twice):,} of {items:,} items have an id that stands more than once"
            self._findings.note("ids-repeat", len(twice), example, reason)
        held = {name: own["items"] for name, own in zip(splits, self._splits, strict=True)}
        if not held.pop(_NO_SPLIT) and held and not held.get("train"):
            reason = "no item is in 'train'"
            self._findings.note("no-train-split", sum(held.values()), next(iter(held)), reason)
        often = self._captions.most_repeated()
        if often is not None:
            reason = f"{often[0]!r:.80} is the caption of {often[1]:,}"
            self._findings.note("captions-repeat", often[1], often[0][:80], reason)

    def _split_code(self, split: str | None) -> int:
        name = _NO_SPLIT if split is None else split
        code = self._split_codes.get(name)
        if code is None:
            if len(self._split_codes) >= _MOST_SPLITS:
                name = f"(more than {_MOST_SPLITS:,} splits)"
            code = self._split_codes.setdefault(name, len(self._split_codes))
            if code == len(self._splits):
                self._splits.append(dict.fromkeys(_COUNTED, 0))
        return code

    def _counts(self) -> dict[str, int]:
        account = self.account
        dropped = sum(n for kind, n in self._findings.total.items() if kind.startswith("caption-"))
        return {
            "items": account.items,
            "sound": account.sound,
            "rejected": account.rejected,
            "pairs": account.pairs,
            "images_only": account.images_only,
            "texts_only": account.texts_only,
            "captions": sum(split["captions"] for split in self._splits),
            "captions_dropped": dropped,
        }

    def _groups(
        self, duplicates: Duplicates, names: list[str], images_of: ImagesOf | None
    ) -> tuple[dict[str, Any], dict[str, list[GroupExample]]]:
        """The groups of each kind as doctor.json lists them, and as the page shows them."""
        first = {
            kind: [
                rows[:_LISTED_ITEMS] for rows, _ in zip(group, range(_LISTED_GROUPS), strict=False)
            ]
            for kind, group in duplicates.groups.items()
        }
        ids = self._ids.look_up(row for groups in first.values() for rows in groups for row in rows)
        listed = {
            kind: {
                "groups": len(duplicates.groups[kind]),
                "items": len(duplicates.groups[kind].rows),
                "listed": [[ids[int(row)] for row in rows] for rows in first[kind]],
            }
            for kind in DUPLICATES
        }
        chosen = {
            kind: [rows[:_SHOWN_ITEMS] for rows in first[kind][:_SHOWN_GROUPS]] for kind in first
        }
        wanted = {ids[int(row)] for groups in chosen.values() for rows in groups for row in rows}
        found = images_of(wanted) if images_of and wanted else {}
        images = {item: small_image(data) for item, data in found.items()}
        shown = {
            kind: [
                GroupExample(
                    items=tuple(ids[int(row)] for row in rows),
                    splits=tuple(names[self._fingerprints.split_of(int(row))] for row in rows),
                    images=tuple(images.get(ids[int(row)]) for row in rows),
                    size=len(whole),
                )
                for rows, whole in zip(groups, duplicates.groups[kind], strict=False)
            ]
            for kind, groups in chosen.items()
        }
        return listed, shown


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not rejected_file(folder).is_file():
        raise DataError(f"{folder} holds no earlier report, but files; name another folder")


def _images(reader: Reader, ids: Collection[str]) -> dict[str, bytes]:
    missing = set(ids)
    found: dict[str, bytes] = {}
    for item in reader:
        if isinstance(item, Record) and item.id in missing:
            missing.discard(item.id)
            if item.image is not None:
                found[item.id] = item.image
            if not missing:
                break
    return found
