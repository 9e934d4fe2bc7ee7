"""Grids of runs on one machine: their settings, and a few runs at once, resumable.

`run_grid` does jobs of any kind: those of `tijepa sweep`, each `tijepa train` in a folder of its
own, and those of the benchmarks, which train in processes that stay. Of a sweep the folder alone
says how far a run is. So a sweep that was stopped goes on where it was, a finished run is never
done again, and a grid that has grown adds runs. A run that fails is reported, and the others go on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from tijepa.config import RunConfig, load_config
from tijepa.config.yaml_io import read_yaml
from tijepa.errors import ConfigError
from tijepa.inference.results import Retrieval, RunResults
from tijepa.io.files import writing
from tijepa.io.formatting import duration, without_nan
from tijepa.io.progress import SILENT, Interrupt, Reporter
from tijepa.model.saving import write_json
from tijepa.runs.compare import best_validation
from tijepa.runs.record import read_run

State = Literal["finished", "started", "new"]
PAUSE = 0.1  # seconds between looks at the running jobs
J = TypeVar("J")
R = TypeVar("R")


def run_grid(
    jobs: Sequence[J],
    work: Callable[[J], R],
    executor: Executor,
    ended: Callable[[J, R], None],
    *,
    at_once: int,
    stop: Callable[[], None] = lambda: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Do `jobs` in their order on `executor`, `at_once` of them; `ended` is told of each at once.

    `meanwhile` is called again and again, many times a second. After Ctrl-C no further job begins,
    `stop` may tell the running ones, and once they are through `KeyboardInterrupt` is raised; a
    second Ctrl-C raises it without waiting. An error of a job is raised when it ends.
    """
    waiting = list(jobs)
    running: dict[Future[R], J] = {}
    told = False
    with Interrupt() as interrupt:
        while running or (waiting and not interrupt.requested):
            while waiting and len(running) < at_once and not interrupt.requested:
                job = waiting.pop(0)
                running[executor.submit(work, job)] = job
            if interrupt.requested and not told:
                told = True
                stop()
            for future in wait(running, PAUSE, FIRST_COMPLETED).done:
                ended(running.pop(future), future.result())
            meanwhile()
    if interrupt.requested:
        raise KeyboardInterrupt


# The runs of a sweep: every combination of the values of its axes, each with a readable name.


@dataclass(frozen=True)
class Axis:
    """A setting and the values it takes, as one writes them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. `values` are those of the axes, `overrides` all that is given."""

    name: str
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: RunConfig


def parse_axis(text: str) -> Axis:
    """`optim.lr=1e-3,5e-4`; values are YAML, so that `optim.betas=[0.9, 0.95],[0.9, 0.99]` is two.

    Raises `ConfigError` for what is not of that form, and for a value given twice.
    """
    key, separator, listed = text.partition("=")
    if not separator or not key or not listed.strip():
        raise ConfigError(f"grid '{text}' is not of the form section.key=VALUE,VALUE,...")
    try:
        values = read_yaml(f"[{listed}]")
    except yaml.YAMLError:
        raise ConfigError(f"grid '{text}': {listed!r} is no list of YAML values") from None
    written = tuple(_written(one) for one in values)
    twice = next((one for one in written if written.count(one) > 1), None)
    if twice is not None:
        raise ConfigError(f"grid '{text}' holds {twice} twice: leave one of them")
    return Axis(key, written)


def cells_of(
    axes: Sequence[Axis],
    *,
    preset: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """All combinations, the last axis the fastest; every configuration is checked here.

    Raises `ConfigError`, naming the combination where a single one is at fault.
    """
    keys = [axis.key for axis in axes]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(f"grid over {twice} is given twice: list all its values in one `grid`")
    fixed = {text.partition("=")[0] for text in overrides}
    both = next((key for key in keys if key in fixed), None)
    if both is not None:
        raise ConfigError(f"{both} is given and has a grid: leave one of them")
    labels = _labels(keys)
    cells = []
    for chosen in product(*(axis.values for axis in axes)):
        own = [f"{key}={value}" for key, value in zip(keys, chosen, strict=True)]
        name = ",".join(
            f"{label}={_safe(value)}" for label, value in zip(labels, chosen, strict=True)
        )
        try:
            config = load_config(preset, file, [*overrides, *own])
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}" if name else str(error)) from None
        values = {key: read_yaml(value) for key, value in zip(keys, chosen, strict=True)}
        cells.append(Cell(name or "run", values, (*overrides, *own), config))
    names = [cell.name for cell in cells]
    same = next((name for name in names if names.count(name) > 1), None)
    if same is not None:
        raise ConfigError(f"two runs of the grid would both be called {same}: change a value")
    return cells


def _labels(keys: Sequence[str]) -> list[str]:
    """The last part of each key, as much more as tells it from the others."""
    labels = []
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[-size:]) for size in range(1, len(parts) + 1))
        others = [other for other in keys if other != key]
        labels.append(next(e for e in endings if not any(_ends(other, e) for other in others)))
    return labels


def _ends(key: str, ending: str) -> bool:
    return key == ending or key.endswith(f".{ending}")


def _written(value: Any) -> str:
    """One line that an override reads back to `value`: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _safe(value: str) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value).strip("_") or "empty"


# Runs of `tijepa train` in processes of their own.

Command = Callable[[Cell, Path, bool], Sequence[str]]


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
    step: int = 0  # of the last line that was read of its metrics.jsonl
    seen: int = 0  # bytes read of it

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
    for one in waiting:
        if states[one.cell.name] == "started":
            _follow(one, SILENT)
    reporter.say(f"sweep     {out}: {len(outcomes)} runs, {done} of them finished, {jobs} at once")
    running: list[subprocess.Popen[bytes]] = []
    stopping = False

    def work(one: Outcome) -> None:
        start, resume = time.monotonic(), states[one.cell.name] == "started"
        process = _start(one, command, resume)
        running.append(process)
        if stopping:
            process.send_signal(signal.SIGINT)
        reporter.say(f"{'resumed' if resume else 'started':<10}{one.cell.name}")
        process.wait()
        _conclude(one, process.returncode, time.monotonic() - start, reporter, stopped=stopping)

    def interrupt() -> None:
        nonlocal stopping
        stopping = True
        for process in list(running):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def stop() -> None:
        reporter.say("stopping: the running ones save first; Ctrl-C again stops at once")
        interrupt()

    steps = sum(one.cell.config.optim.steps - one.step for one in waiting)
    try:
        with (
            reporter.bar("steps of all runs", steps) as advance,
            ThreadPoolExecutor(jobs) as threads,  # each waits for one process
        ):
            try:
                run_grid(
                    waiting,
                    work,
                    threads,
                    lambda *_: _write(out, outcomes),
                    at_once=jobs,
                    stop=stop,
                    meanwhile=lambda: advance(sum(_follow(one, reporter) for one in waiting)),
                )
            finally:
                interrupt()
    except KeyboardInterrupt:
        reporter.say("stopped; the same command goes on")
        raise
    finally:
        _write(out, outcomes)
    return outcomes


def _start(outcome: Outcome, command: Command, resume: bool) -> subprocess.Popen[bytes]:
    folder, log = outcome.folder, _log(outcome)
    if not resume and folder.is_dir() and (folder / "config.yaml").is_file():
        shutil.rmtree(folder)  # a run that ended before its first checkpoint
    with writing(log), log.open("ab") as file:
        return subprocess.Popen(
            command(outcome.cell, folder, resume),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            start_new_session=True,  # Ctrl-C reaches a run once, from here
        )


def _conclude(one: Outcome, code: int, took: float, reporter: Reporter, *, stopped: bool) -> None:
    if code == 0:
        _read(one)
        best = one.validation
        shown = "no healthy validation" if best is None else f"validation R@1 {100 * best:.1f} %"
        reporter.say(f"finished  {one.cell.name} in {duration(took)}: {shown}")
    elif stopped:
        one.status = "interrupted"
    else:
        one.status, one.problem = "failed", _last_line(_log(one), code)
        reporter.say(f"failed    {one.cell.name}: {one.problem}; see {_log(one)}")


def _follow(one: Outcome, reporter: Reporter) -> int:
    """Steps since the last look at a run's metrics; what it measured meanwhile is said."""
    path, before = one.folder / "metrics.jsonl", one.step
    size = path.stat().st_size if path.is_file() else one.seen
    if size == one.seen:
        return 0
    start = one.seen if size > one.seen else 0  # a run that went back has cut its lines
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read()
    lines = lines[: lines.rfind(b"\n") + 1]  # the last one may not be whole yet
    one.seen = start + len(lines)
    for line in map(json.loads, lines.splitlines()):
        one.step = max(one.step, line["step"])
        found = RunResults.from_json(line).retrieval if line["kind"] == "eval" else None
        if found is not None:
            forth, back = (100 * way.recall_at_1 for way in found.directions.values())
            reporter.say(
                f"{'at work':<10}{one.cell.name}: step {line['step']:,} of"
                f" {one.cell.config.optim.steps:,}, held-out R@1 {forth:.1f} / {back:.1f} %"
            )
    return one.step - before


def _log(outcome: Outcome) -> Path:
    return outcome.folder.with_name(f"{outcome.folder.name}.log")


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
