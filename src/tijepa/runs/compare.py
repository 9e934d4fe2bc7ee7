"""Runs side by side: what each reached, what it cost, and in which settings they differ."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from tijepa.config.yaml_io import leaves
from tijepa.errors import CheckpointError, DataError
from tijepa.inference.results import Retrieval, RunResults, shown_verdict
from tijepa.io.formatting import count, without_nan
from tijepa.runs.record import RunRecord, part, read_run, value

_SHOWN_ANYWAY = ("objective.name", "optim.batch_size", "optim.lr", "optim.steps")


@dataclass(frozen=True)
class Compared:
    """One run; NaN stands for a number that was not recorded."""

    name: str
    record: RunRecord
    objective: str
    batch_size: float
    lr: float
    steps: float
    parameters: float
    retrieval: Retrieval
    added: Mapping[str, float] | None  # recall at 1 over the closed form, by direction
    form: str | None
    verdict: str | None
    reason: str | None
    pairs_per_second: float

    @property
    def seconds_per_step(self) -> float:
        """Of training alone, data included, without evaluations; the median."""
        return self.batch_size / self.pairs_per_second

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kept = {name: one for name, one in self.__dict__.items() if name != "record"}
        own = {"retrieval": asdict(self.retrieval), "seconds_per_step": self.seconds_per_step}
        return kept | own


@dataclass(frozen=True)
class Comparison:
    """Runs on the same data, in the order given.

    `where` says in words on what retrieval and verdict were measured. `differing` holds, for every
    setting in which the runs differ, its value in each; None where it has no effect in a run, which
    counts as a difference only between runs of one objective.
    """

    runs: tuple[Compared, ...]
    where: str
    differing: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not known are None."""
        values: dict[str, Any] = without_nan(
            {
                "where": self.where,
                "runs": [run.to_dict() for run in self.runs],
                "differing": dict(self.differing),
                "notes": self.notes,
            }
        )
        return values


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Read the run folders and put them side by side.

        comparison = tijepa.compare(["runs/ours", "runs/clip"])
        [(run.name, run.retrieval) for run in comparison.runs], comparison.differing

    Figures are those of the final models where all runs are finished, and otherwise of the last
    evaluation while training. Raises `DataError` where runs differ in training data, split, or the
    pairs they were measured on, `CheckpointError` where a folder is no run.
    """
    if len(folders) < 2:
        raise DataError(f"{len(folders)} run to compare: name at least 2 run folders")
    records = [_record(Path(folder)) for folder in folders]
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    notes = _check_data(names, records)
    finished = all(record.results is not None for record in records)
    measured = [_measured(record, finished) for record in records]
    splits = [str(one.split) for one in measured if one is not None]
    _check_measured(names, measured)
    where = f"{'final models' if finished else 'last evaluation while training'}"
    if splits:
        where += f", {splits[0]} split"
    if not finished:
        open_ones = [n for n, r in zip(names, records, strict=True) if r.results is None]
        notes.append(f"not finished: {', '.join(open_ones)}")
    runs = tuple(map(_compared, names, records, measured))
    return Comparison(runs, where, _differing(records), tuple(notes))


def best_validation(record: RunRecord) -> tuple[int, float] | None:
    """Step and recall at 1, mean of both directions, of the best healthy validation so far."""
    best: tuple[int, float] | None = None
    for one in record.evals:
        if one.retrieval is None or one.step is None:
            continue
        recall = one.retrieval.mean_recall_at_1
        collapsed = one.collapse is not None and one.collapse.verdict == "collapsed"
        if recall == recall and not collapsed and (best is None or recall > best[1]):
            best = one.step, recall
    return best


def _record(folder: Path) -> RunRecord:
    record = read_run(folder)
    if record.config is None:
        reason = record.problems.get("config.yaml", "config.yaml is empty.")
        raise CheckpointError(f"{folder} is no run folder to compare: {reason}")
    return record


def _check_data(names: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """The same source, version and numbers of items; scenes of several seeds are noted."""
    described = []
    for record in records:
        environment = record.environment or {}
        source = part(record.config or {}, "data").get("source", "scenes")
        described.append((source, environment.get("store"), dict(part(environment, "items"))))
    for name, one in zip(names, described, strict=True):
        if one != described[0]:
            raise DataError(
                f"{names[0]} and {name} were trained on different data ({_data(described[0])}; "
                f"{_data(one)}): compare runs of the same data"
            )
    if described[0][0] == "scenes" and len({(r.config or {}).get("seed") for r in records}) > 1:
        return ["the seeds differ, and with them the scenes drawn, for training and for measuring"]
    return []


def _data(described: tuple[Any, Any, Mapping[str, Any]]) -> str:
    source, store, items = described
    version = f" version {store['version']}" if isinstance(store, dict) else ""
    sizes = ", ".join(f"{name} {count(size)}" for name, size in items.items())
    return f"{source}{version}: {sizes or 'sizes not recorded'}"


def _measured(record: RunRecord, finished: bool) -> RunResults | None:
    if finished:
        return record.results
    return record.evals[-1] if record.evals else None


def _check_measured(names: Sequence[str], measured: Sequence[RunResults | None]) -> None:
    """The same split, and as many images and texts."""
    first: tuple[str, tuple[Any, Any, Any]] | None = None
    for name, one in zip(names, measured, strict=True):
        if one is None or one.retrieval is None:
            continue
        key = (one.split, one.retrieval.num_images, one.retrieval.num_texts)
        first = first or (name, key)
        if key != first[1]:
            raise DataError(
                f"{first[0]} and {name} were measured on different pairs ({_pairs(first[1])}; "
                f"{_pairs(key)}): evaluate them on the same ones"
            )


def _pairs(key: tuple[Any, Any, Any]) -> str:
    split, images, texts = key
    return f"{split} split, {images} images, {texts} texts"


def _compared(name: str, record: RunRecord, measured: RunResults | None) -> Compared:
    config = record.config or {}
    optim = part(config, "optim")
    speeds = [value(line, "pairs_per_second") for line in record.train]
    known = [speed for speed in speeds if speed > 0]
    parameters = part(record.environment or {}, "parameters")
    measured = measured or RunResults()
    verdict, reason = shown_verdict(measured.collapse, record.health)
    return Compared(
        name=name,
        record=record,
        objective=str(part(config, "objective").get("name", "?")),
        batch_size=value(optim, "batch_size"),
        lr=value(optim, "lr"),
        steps=value(optim, "steps"),
        parameters=sum(value(parameters, key) for key in parameters) or float("nan"),
        retrieval=measured.retrieval or Retrieval(),
        added=measured.added,
        form=measured.form,
        verdict=verdict,
        reason=reason,
        pairs_per_second=statistics.median(known) if known else float("nan"),
    )


def _differing(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    settings = [dict(leaves(record.config or {})) for record in records]
    keys = dict.fromkeys(key for one in settings for key in one)
    found: dict[str, list[Any]] = {}
    for key in keys:
        values = [one.get(key) for one in settings]
        named = [(one.get("objective.name"), one.get(key)) for one in settings]
        if key not in _SHOWN_ANYWAY and any(_differ(a, b) for a, b in combinations(named, 2)):
            found[key] = values
    return found


def _differ(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether objective and value of one run differ in value from those of another."""
    both = one[1] is not None and other[1] is not None
    return bool(one[1] != other[1]) and (both or one[0] == other[0])
