"""A source from its reader to its report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tijepa.data.records import Reader, Record, mistyped_split
from tijepa.data.validation.check import validate_parallel
from tijepa.data.validation.diagnosis import Diagnosis
from tijepa.data.validation.findings import DUPLICATES, kind_of
from tijepa.data.validation.page import plural
from tijepa.data.validation.report import Report
from tijepa.errors import DataError
from tijepa.io.progress import Reporter

__all__ = ["diagnose", "print_report"]


def diagnose(
    reader: Reader,
    folder: Path,
    *,
    source: str,
    arguments: Sequence[str] = (),
    max_bad: float,
    max_tokens: int | None,
    threads: int,
    reporter: Reporter,
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
        with (
            closing(validate_parallel(reader, threads=threads)) as items,  # type: ignore[type-var]
            reporter.bar("examining", reader.count()) as advance,
        ):
            for item in items:
                diagnosis.add(item)
                advance(1)
        return diagnosis.finish(lambda ids: _images(reader, ids))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "rejected.jsonl").is_file():
        raise DataError(f"--out {folder} holds no earlier report, but files; name another folder")


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


# The verdict in a few lines for the terminal.


_SHOWN = 8  # kinds of findings


def print_report(console: Console, report: Report) -> None:
    """Counts, the worst findings, where the files lie, and what to run next."""
    facts, counts = report.facts, report.facts["counts"]
    _say(console, facts["description"])
    if report.fit:
        _say(console, "[bold green]fit[/]", plain=False)
    else:
        reasons = escape("; ".join(facts["reasons"]))
        _say(console, f"[bold red]unfit[/]: {reasons}", plain=False)
    _say(
        console,
        f"{plural(counts['items'], 'item', 'items')}: {counts['pairs']:,} pairs, "
        f"{counts['images_only']:,} images alone, {counts['texts_only']:,} texts alone, "
        f"{counts['rejected']:,} skipped; {counts['captions_dropped']:,} captions dropped",
    )
    splits = facts["splits"]
    if len(splits) > 1:
        first = ", ".join(f"{name} {n['items']:,}" for name, n in list(splits.items())[:6])
        _say(console, f"splits: {first}{', …' if len(splits) > 6 else ''}")
    for name, numbers in splits.items():
        meant = mistyped_split(name)
        if meant is not None:
            items = plural(numbers["items"], "item", "items")
            _say(console, f"  split '{name}' of {items}: did you mean '{meant}'?")
    for line in _worst(report):
        _say(console, f"  {line}")
    for step in facts["commands"]:
        _say(console, f"{step['why']}:\n  {step['command']}")
    _say(console, f"report: {report.folder / 'doctor.html'}")


def _worst(report: Report) -> list[str]:
    """What skips first, then copies across splits, then the rest by number."""
    lines = []
    for slug, entry in report.facts["findings"].items():
        what = "skipped" if entry["rejected"] else "noted"
        if slug.startswith("caption-"):
            what = "caption dropped"
        example = entry["examples"][0]
        text = (
            f"{entry['items']:,}: {kind_of(slug).title.lower()} ({what};"
            f" {example['item']}: {example['reason']})"
        )
        lines.append(((0 if entry["rejected"] else 3), -entry["items"], text))
    for slug in DUPLICATES:
        entry = report.facts["duplicates"][slug]
        if entry["groups"]:
            rank = 1 if slug.endswith("two-splits") else 2
            group = " = ".join(entry["listed"][0][:2])
            text = (
                f"{plural(entry['groups'], 'group', 'groups')} of"
                f" {kind_of(slug).title.lower()} ({entry['items']:,} items; {group})"
            )
            lines.append((rank, -entry["groups"], text))
    lines.sort()
    shown = [text for _, _, text in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"and {plural(len(lines) - _SHOWN, 'more kind', 'more kinds')}")
    return shown


def _say(console: Console, text: str, plain: bool = True) -> None:
    """One line as it is; a terminal's control characters in names are shown, not obeyed."""
    safe = "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    console.print(safe, highlight=False, markup=not plain, soft_wrap=True)
