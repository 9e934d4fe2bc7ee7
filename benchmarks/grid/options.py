"""The command line that scripts on the runner share."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grid.journal import Journal
from grid.runner import Runner, Work, default_processes
from record import RESULTS, write_record

__all__ = ["parser", "runner", "written"]


def parser(name: str, doc: str | None, *, seeds: int = 3) -> argparse.ArgumentParser:
    """`--quick`, `--seeds`, `--processes`, `--set`, `--any-code`, `--out`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    made.add_argument("--seeds", type=int, default=seeds)
    made.add_argument("--processes", type=int, default=default_processes())
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting for all runs, e.g. model.image.width=64",
    )
    made.add_argument(
        "--ours",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting for the runs of tijepa alone",
    )
    made.add_argument(
        "--any-code",
        action="store_true",
        help="take finished runs from the journal though code or settings have changed",
    )
    made.add_argument("--out", type=Path, help=f"default: benchmarks/results/{name}.json")
    made.set_defaults(name=name)
    return made


@contextmanager
def runner(
    options: argparse.Namespace,
    work: Work,
    keep: Callable[[Path], None],
    *,
    base: tuple[str, ...],
    journal: str | None = None,
) -> Iterator[Runner]:
    """A runner whose data `keep` makes in a temporary folder; no journal for a smoke test."""
    kept = None if options.quick else RESULTS / f"{journal or options.name}.journal.jsonl"
    with tempfile.TemporaryDirectory(prefix="tijepa-benchmark-") as scratch:
        made = Runner(
            work,
            Path(scratch),
            Journal(kept, any_code=options.any_code),
            processes=options.processes,
            base=base,
        )
        with made.console.status("making images and captions"):
            keep(Path(scratch))
        with made:
            yield made


def written(options: argparse.Namespace, payload: dict[str, Any]) -> Path:
    """The record, beside the smoke test's or under `--out`."""
    quick = RESULTS / f"{options.name}.quick.json"
    return write_record(options.name, payload, options.out or (quick if options.quick else None))
