"""What a run folder says of its run, also while it is unfinished or damaged.

A part that is missing or cannot be read is not an error here: it is `None`, and `problems` says in
words what happened, so that a reader of the report learns it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tijepa.errors import CheckpointError
from tijepa.evaluate.formatting import count

__all__ = ["RunRecord", "part", "read_run", "value"]


@dataclass(frozen=True)
class RunRecord:
    """The readable parts of one run folder."""

    name: str
    config: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    train: tuple[Mapping[str, Any], ...]  # lines of kind "train", one per step, steps ascending
    evals: tuple[Mapping[str, Any], ...]  # lines of kind "eval" of one split, steps ascending
    results: Mapping[str, Any] | None
    set_aside: tuple[Mapping[str, Any], ...] | None
    problems: Mapping[str, str]  # file name → why it is missing from the record

    def best_known(self, key: str) -> tuple[Mapping[str, Any] | None, str]:
        """The final `retrieval` or `collapse`, or else the last one taken while training.

        Beside it, in words, where it comes from.
        """
        if self.results is not None and isinstance(self.results.get(key), dict):
            split = self.results.get("split")
            where = f", {split} split" if isinstance(split, str) else ""
            return self.results[key], f"final model{where}"
        for line in reversed(self.evals):
            if isinstance(line.get(key), dict):
                return line[key], f"step {count(line['step'])}, {self.eval_split} split, not final"
        return None, ""

    @property
    def health(self) -> Mapping[str, Any] | None:
        """What the collapse guard said at the last evaluation, with that evaluation's `step`."""
        for line in reversed(self.evals):
            if isinstance(line.get("health"), dict):
                return {"step": line["step"], **line["health"]}
        return None

    @property
    def eval_split(self) -> str | None:
        """The split of the `evals`."""
        return str(self.evals[0].get("split", "validation")) if self.evals else None


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
        evals=_by_step(_one_split([line for line in metrics if line.get("kind") == "eval"])),
        results=results,
        set_aside=_lines(run_dir / "set_aside.jsonl", problems),
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
