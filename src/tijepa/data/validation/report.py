"""The outcome of a diagnosis: the verdict, everything found, and where it was written."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tijepa.data.records import ReaderOptions
from tijepa.data.validation.findings import Example


@dataclass(frozen=True)
class Command:
    """Something to run, and why."""

    why: str
    command: str


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


def unfit_reasons(counts: Mapping[str, int], max_bad: float) -> list[str]:
    """Why a source cannot be trained on as it is; empty where it can."""
    items, sound = counts["items"], counts["sound"]
    if not items:
        return ["the source holds no item"]
    if not sound:
        return [f"none of its {items:,} items can be used"]
    reasons = []
    share = counts["rejected"] / items
    if share > max_bad:
        reasons.append(
            f"{counts['rejected']:,} of {items:,} items ({share:.2%}) are broken, above the bound"
            f" of {max_bad:.2%}"
        )
    if not counts["pairs"]:
        reasons.append("no item has both an image and a caption")
    return reasons


def commands(
    source: str,
    arguments: Sequence[str],
    counts: Mapping[str, int],
    *,
    max_bad: float,
    redundant: int,
    fit: bool,
    store: str | None = None,
) -> list[Command]:
    """What to run next: what fixes the source, or what prepares it.

    `arguments` are the options by which the source has to be read, such as --image-column. Where it
    is added to a `store`, its copies go by making another store of that one.
    """
    is_store = source.endswith(".lance")
    name = Path(source).name.removesuffix(".lance") or "pairs"

    def prepare(out: str, *more: str) -> str:
        words = ["tijepa", "prepare", source, "--out", f"{out}.lance", *arguments]
        return shlex.join([*words, *more])

    found = []
    bad = counts["rejected"] / counts["items"] if counts["items"] else 0.0
    allowed: list[str] = []
    if counts["sound"] and bad > max_bad:
        allowed = ["--max-bad", f"{math.ceil(bad * 1000) / 1000:g}"]
        why = "To go on without the broken items (better: mend them)"
        found.append(Command(why, prepare(f"{name}-clean" if is_store else name, *allowed)))
    if redundant and counts["pairs"]:
        why = f"To skip the {redundant:,} redundant items"
        copies = ["--duplicates", "skip"]
        again = prepare(f"{name}-clean", *allowed, *copies)
        found.append(Command(why, again if store is None else _again(store, *copies)))
    if fit and not found and is_store:
        found.append(Command("To train on it", train_command(source)))
    elif fit and not found:
        found.append(Command("To make a pair store of it", prepare(name)))
    return found


def reading_words(reader: str | None, options: ReaderOptions) -> list[str]:
    """The words of a command line by which a source is read so; what is None is left out."""
    given = {"reader": reader, **asdict(options)}
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", value)
    ]


def train_command(store: str) -> str:
    """The command that trains on a store of photos."""
    return shlex.join(["tijepa", "train", "--preset", "photos-tiny", "--data", store])


def _again(store: str, *more: str) -> str:
    """The command that makes another store of `store`."""
    name = Path(store.rstrip("/")).name.removesuffix(".lance")
    return shlex.join(["tijepa", "prepare", store, "--out", f"{name}-clean.lance", *more])
