"""Jobs on processes of one thread each; what is finished is kept at once."""

from __future__ import annotations

import datetime
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from grid.job import Job, configuration
from grid.journal import Journal, digest
from tijepa.training.run import processor
from tijepa.training.sweep import run_grid

__all__ = ["Runner"]

Work = Callable[[Job, Path], dict[str, Any]]


class Runner:
    """Does jobs by `work(job, folder)`, which must be importable, and remembers their results.

    Each result says when and on which processor it was made: a record may join runs of several.

    `folder` holds the data; `base` are the settings that all jobs of the script share.
    """

    def __init__(
        self,
        work: Work,
        folder: Path,
        journal: Journal,
        *,
        processes: int,
        base: tuple[str, ...] = (),
        console: Console | None = None,
    ) -> None:
        self.console = console or Console()
        self.folder = folder
        self._work, self._journal, self._base = work, journal, base
        self._processes = max(1, processes)
        self._digests: dict[Job, str] = {}

    def __enter__(self) -> Runner:
        torch.set_num_threads(1)
        alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
        if self._processes == 1:
            self._executor: Executor = ThreadPoolExecutor(1, **alone)
        else:  # processes of their own start: a fork would copy torch's threads half-way
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, context, **alone)
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def results(
        self, jobs: Sequence[Job], say: Callable[[dict[str, Any]], str]
    ) -> list[dict[str, Any]]:
        """The result of each job; those that the journal lacks are run, the longest first.

        `say` words a result in a few words.
        """
        made_of = {job: self._made_of(job) for job in jobs}
        before = self._journal.foreign
        known = {job: self._journal.get(job, made_of[job]) for job in made_of}
        foreign = self._journal.foreign - before
        if foreign:
            self.console.print(
                f"{foreign} finished runs in {self._journal.path} are of other code or settings"
                " and are done anew; --any-code takes them as they are",
                highlight=False,
            )
        missing = [job for job, result in known.items() if result is None]
        missing.sort(key=lambda job: -job.steps)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as progress:
            task = progress.add_task("training", total=len(missing))

            def finished(job: Job, found: dict[str, Any]) -> None:
                today = datetime.datetime.now(datetime.UTC).date().isoformat()
                result = {**found, "date": today, "processor": processor()}
                self._journal.record(job, made_of[job], result)
                known[job] = result
                progress.advance(task)
                rate = f"{result['pairs_per_second']:.0f} pairs/s" if "seconds" in result else ""
                self.console.print(f"{job}: {say(result)}  {rate}", highlight=False)

            work = partial(self._work, folder=self.folder)
            run_grid(missing, work, self._executor, finished, at_once=self._processes)
        return [result for job in jobs if (result := known[job]) is not None]

    def _made_of(self, job: Job) -> str:
        if job not in self._digests:
            self._digests[job] = digest(configuration(job, self._base).to_yaml())
        return self._digests[job]


def default_processes() -> int:
    """One for each core, at most two: more share its caches."""
    return min(2, os.cpu_count() or 1)
