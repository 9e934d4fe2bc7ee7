"""Finished runs, one JSON line each, so that an interrupted benchmark goes on.

A line holds the job, its result, and a digest of the code that trains and of the configuration: a
run of other code is not taken for one of this code.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import tijepa
from grid.job import Job

__all__ = ["Journal", "digest", "meaning_of"]

# what a trained model depends on, beside its configuration and its data
_CODE = (
    "model",
    "objectives",
    "data/scenes",
    "data/batches/order.py",
    "training/build.py",
    "training/optimizer.py",
    "training/step.py",
)


class Journal:
    """Results by job. Without a path nothing is kept."""

    def __init__(self, path: Path | None, *, any_code: bool = False) -> None:
        self.path = path
        self.any_code = any_code
        self.foreign = 0  # lines of other code or another configuration
        self._lines: dict[Job, tuple[str, dict[str, Any]]] = {}
        if path is not None and path.exists():
            text = path.read_text(encoding="utf-8")
            if text and not text.endswith("\n"):
                # a line that was cut off while it was written: its run is done anew
                text = text[: text.rfind("\n") + 1]
                path.write_text(text, encoding="utf-8")
            for line in text.splitlines():
                held = json.loads(line)
                fields = held["job"] | {"settings": tuple(held["job"]["settings"])}
                self._lines[Job(**fields)] = held["digest"], held["result"]

    def get(self, job: Job, made_of: str) -> dict[str, Any] | None:
        """The result of a job, if it is known and of the same `digest`."""
        if job not in self._lines:
            return None
        found, result = self._lines[job]
        if found != made_of and not self.any_code:
            self.foreign += 1
            return None
        return result

    def record(self, job: Job, made_of: str, result: dict[str, Any]) -> None:
        """Keep a result, at once."""
        self._lines[job] = made_of, result
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = {"job": asdict(job), "digest": made_of, "result": result}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def digest(*parts: str) -> str:
    """Of the code that trains, and of `parts`."""
    return hashlib.blake2b("\n".join([_code(), *parts]).encode(), digest_size=8).hexdigest()


@cache
def _code() -> str:
    assert tijepa.__file__ is not None
    root = Path(tijepa.__file__).parent
    return meaning_of(
        file.read_text(encoding="utf-8")
        for name in _CODE
        for file in sorted((root / name).rglob("*.py") if (root / name).is_dir() else [root / name])
    )


def meaning_of(sources: Iterable[str]) -> str:
    """Python sources without comments, docstrings and layout."""
    trees = [ast.parse(source) for source in sources]
    for node in (node for tree in trees for node in ast.walk(tree)):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            body[0].value.value = ""
    return "\n".join(ast.dump(tree) for tree in trees)
