"""A grid of runs on one machine: one process each, as many at once as wanted, resumable.

Every run is `tijepa train` in a folder of its own; the folder alone says how far it is. So a sweep
that was stopped goes on where it was, a finished run is never done again, and a grid that has grown
adds runs. A run that fails is reported, and the others go on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tijepa.config import RunConfig, load_config
from tijepa.errors import ConfigError
from tijepa.inference.results import Retrieval, RunResults
from tijepa.io.files import writing
from tijepa.io.formatting import duration, without_nan
from tijepa.io.progress import Interrupt, Reporter
from tijepa.model.saving import write_json
from tijepa.runs.compare import best_validation
from tijepa.runs.record import read_run
from tijepa.training.grid import Cell

State = Literal["finished", "started", "new"]
Command = Callable[[Cell, Path, bool], Sequence[str]]
PAUSE = 0.1  # seconds between looks at the running processes


@dataclass
class Outcome:
    """What became of one run."""

    cell: Cell
    folder: Path
    status: Literal["finished", "failed", "waiting", "interrupted"] = "waiting"
    problem: str | None = None
    validation: float | None = None
    best_step: int | None = None
    results: RunResults = field(default_factory=RunResults)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for sweep.json."""
        retrieval = self.results.retrieval or Retrieval()
        return {
            "name": self.cell.name,
            "values": dict(self.cell.values),
            "status": self.status,
            "problem": self.problem,
            "validation_recall_at_1": self.validation,
            "best_step": self.best_step,
            "split": self.results.split,
            "recall_at_1": {
                name: direction.recall_at_1 for name, direction in retrieval.directions.items()
            },
            "verdict": None if self.results.collapse is None else self.results.collapse.verdict,
        }


def train_command(preset: str | None, file: Path | None, threads: int) -> Command:
    """The command of a run: `tijepa train`, with `threads` where the settings leave them open."""

    def command(cell: Cell, folder: Path, resume: bool) -> list[str]:
        start = [sys.executable, "-m", "tijepa", "train", "--out", str(folder)]
        if resume:
            return [*start, "--resume"]
        base = [] if preset is None else ["--preset", preset]
        base += [] if file is None else ["--config", str(file)]
        own = [] if cell.config.compute.threads else [f"compute.threads={threads}"]
        return [*start, *base, *cell.overrides, *own]

    return command


def state_of(folder: Path, config: RunConfig) -> State:
    """How far the run in `folder` is; `ConfigError` where it is a run of other settings.

    The number of threads may differ: it is not the run's, but depends on how many run at once.
    """
    stored = folder / "config.yaml"
    if not stored.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} holds files but no run: empty it, or name another `out`")
        return "new"
    for key, here, there in config.differences(load_config(file=stored)):
        if key != "compute.threads":
            raise ConfigError(
                f"{key} is {there} in {stored}, not {here}: a sweep keeps the settings of its"
                " runs; delete that folder, or name another `out`"
            )
    if (folder / "report.html").is_file():
        return "finished"
    return "started" if any((folder / "checkpoints").glob("step-*")) else "new"


def run_sweep(
    cells: Sequence[Cell], out: Path, command: Command, reporter: Reporter, *, jobs: int = 1
) -> list[Outcome]:
    """Do all runs that are not finished, `jobs` at once, and keep `out/sweep.json` up to date.

    Ctrl-C lets the running ones save, and raises `KeyboardInterrupt`; a second one stops them at
    once. Raises `ConfigError` before anything runs where a folder holds a run of other settings.
    """
    outcomes = [Outcome(cell, out / cell.name) for cell in cells]
    states = {one.cell.name: state_of(one.folder, one.cell.config) for one in outcomes}
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for one in outcomes:
        if states[one.cell.name] == "finished":
            _read(one)
    waiting = [one for one in outcomes if one.status != "finished"]
    done = len(outcomes) - len(waiting)
    reporter.say(f"sweep     {out}: {len(outcomes)} runs, {done} of them finished, {jobs} at once")
    running: list[_Running] = []
    told = 0
    with Interrupt() as interrupt:
        try:
            while (waiting and not interrupt.requested) or running:
                while waiting and len(running) < jobs and not interrupt.requested:
                    one = waiting.pop(0)
                    resume = states[one.cell.name] == "started"
                    running.append(_start(one, command, resume))
                    reporter.say(f"{'resumed' if resume else 'started':<10}{one.cell.name}")
                if interrupt.requested and not told:
                    told = 1
                    reporter.say(
                        "stopping: the running ones save first; Ctrl-C again stops at once"
                    )
                    _signal(running)
                for ended in [run for run in running if run.process.poll() is not None]:
                    running.remove(ended)
                    _conclude(ended, reporter, stopped=interrupt.requested)
                    _write(out, outcomes)
                time.sleep(PAUSE)
        finally:
            _signal(running)
            for run in running:
                run.process.wait()
                _conclude(run, reporter, stopped=True)
            _write(out, outcomes)
    if interrupt.requested:
        reporter.say("stopped; the same command goes on")
        raise KeyboardInterrupt
    return outcomes


@dataclass
class _Running:
    outcome: Outcome
    process: subprocess.Popen[bytes]
    log: Path
    start: float


def _start(outcome: Outcome, command: Command, resume: bool) -> _Running:
    folder = outcome.folder
    if not resume and folder.is_dir() and (folder / "config.yaml").is_file():
        shutil.rmtree(folder)  # a run that ended before its first checkpoint
    log = folder.with_name(f"{folder.name}.log")
    with writing(log), log.open("ab") as file:
        process = subprocess.Popen(
            command(outcome.cell, folder, resume),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            start_new_session=True,  # Ctrl-C reaches a run once, from here
        )
    return _Running(outcome, process, log, time.monotonic())


def _signal(running: Sequence[_Running]) -> None:
    for run in running:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)


def _conclude(run: _Running, reporter: Reporter, *, stopped: bool) -> None:
    one = run.outcome
    code = run.process.returncode
    if code == 0:
        _read(one)
        best = one.validation
        shown = "no healthy validation" if best is None else f"validation R@1 {100 * best:.1f} %"
        took = duration(time.monotonic() - run.start)
        reporter.say(f"finished  {one.cell.name} in {took}: {shown}")
    elif stopped:
        one.status = "interrupted"
    else:
        one.status, one.problem = "failed", _last_line(run.log, code)
        reporter.say(f"failed    {one.cell.name}: {one.problem}; see {run.log}")


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else f"exit code {code}"


def _read(outcome: Outcome) -> None:
    record = read_run(outcome.folder)
    outcome.status = "finished"
    outcome.results = record.results or RunResults()
    best = best_validation(record)
    if best is not None:
        outcome.best_step, outcome.validation = best


def _write(out: Path, outcomes: Sequence[Outcome]) -> None:
    write_json(without_nan({"runs": [one.to_dict() for one in outcomes]}), out / "sweep.json")
