"""The record of the run as the health view shows it: figures, facts, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from tijepa.evaluate.formatting import count, plain
from tijepa.evaluate.page.curves import curves
from tijepa.evaluate.page.health import health, sign_of
from tijepa.evaluate.run_record import RunRecord, part, read_run, value
from tijepa.hub.verdict import shown_verdict
from tijepa.serve.answers import Direction, RunAnswer

__all__ = ["run_answer"]


def run_answer(folder: Path) -> RunAnswer:
    """What the run folder says now; a saved model without a record says little.

    Curves and history are the HTML of the run's report, in which all text is escaped. Raises
    `CheckpointError` where the folder is gone.
    """
    run = read_run(folder)
    retrieval, measured = run.best_known("retrieval")
    collapse, _ = run.best_known("collapse")
    found = retrieval or {}
    verdict, reason = shown_verdict(collapse or {}, run.health)
    return RunAnswer(
        name=run.name,
        verdict=verdict,
        sign=sign_of(verdict),
        reason=reason,
        measured=measured,
        image_to_text=_direction(found, "image_to_text"),
        text_to_image=_direction(found, "text_to_image"),
        images=_whole(found, "num_images"),
        texts=_whole(found, "num_texts"),
        chance=_number(found, "chance_at_1"),
        facts=_facts(run),
        problems=[why for file, why in run.problems.items() if file != "set_aside.jsonl"],
        history=health(run),
        curves=curves(run),
    )


def _direction(found: Mapping[str, Any], key: str) -> Direction | None:
    readings = part(found, key)
    if not readings:
        return None
    return Direction(**{name: _number(readings, name) for name in Direction.model_fields})


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    config, environment = run.config or {}, run.environment or {}
    objective, optim = part(config, "objective"), part(config, "optim")
    source = part(config, "data").get("source")
    steps, batch = value(optim, "steps"), value(optim, "batch_size")
    form = (run.results or {}).get("form")
    parameters = part(environment, "parameters").get("total", environment.get("parameters"))
    facts = {
        "Objective": plain(objective["name"]) if "name" in objective else None,
        "Energy": plain(form) if isinstance(form, str) else None,
        "Data": PurePath(source).name if isinstance(source, str) else None,  # no folders
        "Length": None if math.isnan(steps * batch) else f"{count(steps)} steps of {count(batch)}",
        "Parameters": count(parameters) if isinstance(parameters, (int, float)) else None,
        "Started": _minute(environment.get("started", environment.get("date"))),
    }
    return [(term, words) for term, words in facts.items() if isinstance(words, str)]


def _minute(time: object) -> str | None:
    """2026-11-24T08:21:57+00:00 → 2026-11-24 08:21."""
    return time[:16].replace("T", " ") if isinstance(time, str) else None


def _number(mapping: Mapping[str, Any], key: str) -> float | None:
    found = value(mapping, key)
    return found if math.isfinite(found) else None


def _whole(mapping: Mapping[str, Any], key: str) -> int | None:
    found = _number(mapping, key)
    return None if found is None else int(found)
