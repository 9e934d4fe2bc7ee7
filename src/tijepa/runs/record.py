"""What a run folder says of its run, also while it is unfinished or damaged.

A part that is missing or cannot be read is not an error here: it is `None`, and `problems` says in
words what happened, so that a reader of the report learns it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from tijepa.config import RunConfig
from tijepa.data import open_splits
from tijepa.data.pairs import PairSplits, rejected_file
from tijepa.data.store.source import Store
from tijepa.errors import CheckpointError, DataError
from tijepa.inference.results import Health, RunResults
from tijepa.io.formatting import count
from tijepa.io.progress import Reporter
from tijepa.model.saving import read_json


@dataclass(frozen=True)
class RunRecord:
    """The readable parts of one run folder."""

    name: str
    config: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    train: tuple[Mapping[str, Any], ...]  # lines of kind "train", one per step, steps ascending
    evals: tuple[RunResults, ...]  # lines of kind "eval" of one split, steps ascending
    results: RunResults | None
    rejected: tuple[Mapping[str, Any], ...] | None
    problems: Mapping[str, str]  # file name → why it is missing from the record

    def best_known(self, part: Literal["retrieval", "collapse"]) -> tuple[RunResults, str]:
        """What measured this part: the final evaluation, or else the last one while training.

        Beside it, in words, where it comes from; empty where nothing did.
        """
        if self.results is not None and getattr(self.results, part) is not None:
            where = "" if self.results.split is None else f", {self.results.split} split"
            return self.results, f"final model{where}"
        for one in reversed(self.evals):
            if getattr(one, part) is not None:
                return one, f"step {count(one.step or 0)}, {self.eval_split} split, not final"
        return RunResults(), ""

    @property
    def health(self) -> Health | None:
        """What the collapse guard said at the last evaluation, with that evaluation's `step`."""
        found = (replace(one.health, step=one.step) for one in reversed(self.evals) if one.health)
        return next(found, None)

    @property
    def eval_split(self) -> str | None:
        """The split of the `evals`."""
        return self.evals[0].split or "validation" if self.evals else None


def read_run(run_dir: Path) -> RunRecord:
    """Read what there is. Raises `CheckpointError` only where the folder itself is missing."""
    if not run_dir.is_dir():
        raise CheckpointError(f"run folder {run_dir} does not exist: name the folder of a run")
    problems: dict[str, str] = {}
    config = _mapping(run_dir / "config.yaml", problems)
    environment = _mapping(run_dir / "environment.json", problems)
    results = _mapping(run_dir / "results.json", problems)
    metrics = _lines(run_dir / "metrics.jsonl", problems) or ()
    return RunRecord(
        name=run_dir.resolve().name,
        config=config,
        environment=environment,
        train=_by_step([line for line in metrics if line.get("kind") == "train"]),
        evals=tuple(
            RunResults.from_json(line)
            for line in _by_step(_one_split([one for one in metrics if one.get("kind") == "eval"]))
        ),
        results=None if results is None else RunResults.from_json(results),
        rejected=_lines(rejected_file(run_dir), problems),
        problems=problems,
    )


def part(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A nested mapping, empty where there is none."""
    found = mapping.get(key)
    return found if isinstance(found, dict) else {}


def value(mapping: Mapping[str, Any], key: str) -> float:
    """A number, or NaN (shown as such) where none was recorded."""
    found = mapping.get(key)
    return float(found) if isinstance(found, (int, float)) else math.nan


def _mapping(path: Path, problems: dict[str, str]) -> Mapping[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
        loaded = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except FileNotFoundError:
        problems[path.name] = f"{path.name} is not there (yet)."
    except OSError as error:
        problems[path.name] = f"{path.name} could not be read: {error.strerror}."
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems[path.name] = f"{path.name} is damaged: {(str(error) or 'nested').splitlines()[0]}."
    else:
        if isinstance(loaded, dict):
            return loaded
        problems[path.name] = f"{path.name} is damaged: it holds no mapping."
    return None


def _lines(path: Path, problems: dict[str, str]) -> tuple[Mapping[str, Any], ...] | None:
    """JSON lines; those that cannot be read (a write cut short) are left out and counted."""
    lines: list[Mapping[str, Any]] = []
    bad = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                if not text.strip():
                    continue
                loaded = _parsed(text)
                if isinstance(loaded, dict):
                    lines.append(loaded)
                else:
                    bad += 1
    except FileNotFoundError:
        problems[path.name] = f"{path.name} is not there (yet)."
        return None
    except OSError as error:
        problems[path.name] = f"{path.name} could not be read: {error.strerror}."
        return None
    if bad:
        noun = "line is" if bad == 1 else "lines are"
        problems[path.name] = f"{bad} {noun} damaged in {path.name} and left out here."
    return tuple(lines)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _one_split(lines: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The validation split's lines; where there are none, those of the first split seen."""
    splits = [line.get("split", "validation") for line in lines]
    chosen = "validation" if "validation" in splits or not splits else splits[0]
    return [line for line, split in zip(lines, splits, strict=True) if split == chosen]


def _by_step(lines: list[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Ascending steps; a step repeated after a resume counts as last written."""
    last = {
        line["step"]: line
        for line in lines
        if isinstance(line.get("step"), (int, float)) and line["step"] == line["step"]
    }
    return tuple(last[step] for step in sorted(last))


# The data of a run, at the version that it began with.


def open_run_data(
    config: RunConfig, run: Path | None, reporter: Reporter, *, other: str | None = None
) -> PairSplits:
    """Open `other`, or else the source of `config`; a store at the version that `run` recorded.

    So rows that were appended since change nothing for a run that is resumed or evaluated. What was
    prepared into the cache is the same as long as the cache keeps it, whatever happened to its
    source; the description of the splits says so. `run` is None for a new one, which takes the
    latest version. Raises `DataError` where the data cannot be used, that version is gone, or the
    source has changed and nothing is kept of how it was, `CheckpointError` where the run's record
    is damaged.
    """
    recorded: Mapping[str, Any] = {}
    source = other or config.data.source
    if other is None and run is not None:
        recorded = _recorded(run, source)
        source = recorded.get("uri", source)
    state = recorded.get("state")
    splits = open_splits(
        source,
        image_size=config.data.image_size,
        seed=config.seed,
        max_bad=config.data.max_bad,
        version=recorded.get("version"),
        state=state,
        reporter=reporter,
    )
    if state not in (None, splits.state):
        raise DataError(
            f"{source} has changed since {run} began (names, sizes or times of its files), and the"
            " cache no longer holds how it was: restore it; or evaluate on what it is now with"
            f" `data={source}`, or train anew into another `out`"
        )
    return splits


def trained_on(model: object, store: Store) -> bool:
    """Whether a run folder says that it was trained on this store; False of anything else."""
    path = Path(model) / "environment.json" if isinstance(model, (str, Path)) else None
    if path is None or not path.is_file():
        return False
    uri = _store_of(path).get("uri")
    return isinstance(uri, str) and _same_place(uri, store.uri)


def _store_of(environment: Path) -> Mapping[str, Any]:
    """The store that an `environment.json` names; nothing where it names none."""
    found = read_json(environment)
    return part(found, "store") if isinstance(found, dict) else {}


def _same_place(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one == other
    return Path(one).resolve() == Path(other).resolve()


def _recorded(run: Path, source: str) -> Mapping[str, Any]:
    """`uri` and `version` of a run on a store, or `state` of what was prepared into the cache."""
    from tijepa.data.store.schema import is_store

    path = run / "environment.json"
    store = _store_of(path) if path.exists() or is_store(source) else {}
    if not is_store(source):
        return {"state": str(store["state"])} if "state" in store else {}
    if not {"uri", "version"} <= store.keys():
        raise CheckpointError(f"{path} does not say which version of {source} it used; restore it")
    return {"uri": str(store["uri"]), "version": int(store["version"])}
