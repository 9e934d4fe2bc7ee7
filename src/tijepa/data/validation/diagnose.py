"""A source from its reader to its report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from tijepa.data.records import Reader, Record
from tijepa.data.validation.check import validate_parallel
from tijepa.data.validation.diagnosis import Diagnosis
from tijepa.data.validation.report import Report
from tijepa.errors import DataError
from tijepa.io.progress import Reporter

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
