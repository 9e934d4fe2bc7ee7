"""A source from its reader to its report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tijepa.data.check import Checked
from tijepa.data.doctor.diagnosis import Diagnosis
from tijepa.data.doctor.report import Report
from tijepa.data.examine import examine
from tijepa.data.pairs import SetAside
from tijepa.data.records import Reader, Record
from tijepa.errors import DataError

__all__ = ["diagnose"]


def diagnose(
    reader: Reader,
    folder: Path,
    *,
    source: str,
    arguments: Sequence[str] = (),
    max_bad: float,
    max_tokens: int | None,
    threads: int,
    console: Console,
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
        with closing(examine(reader, threads=threads)) as items:  # type: ignore[type-var]
            for item in _watched(items, reader.count(), console):
                diagnosis.add(item)
        return diagnosis.finish(lambda ids: _pictures(reader, ids))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "quarantine.jsonl").is_file():
        raise DataError(f"--out {folder} holds no earlier report, but files; name another folder")


def _watched(
    items: Iterator[Checked | SetAside], total: int | None, console: Console
) -> Iterable[Checked | SetAside]:
    """`items`, with a bar on a terminal."""
    bar = Progress(
        TextColumn("examined"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield from bar.track(items, total=total)


def _pictures(reader: Reader, ids: Collection[str]) -> dict[str, bytes]:
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
