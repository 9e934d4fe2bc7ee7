"""What is said of the server and of the run: health, metrics, the record of training."""

from __future__ import annotations

import math
import time
from pathlib import Path, PurePath

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tijepa.inference.results import Retrieval, RunResults, shown_verdict
from tijepa.io.formatting import count, date, plain
from tijepa.runs.record import RunRecord, part, read_run, value
from tijepa.runs.report.curves import curves, sign_of
from tijepa.runs.report.curves import health as health_section
from tijepa.serve.dependencies import service_of
from tijepa.serve.errors import REFUSALS
from tijepa.serve.schemas import About, ColumnAnswer, Direction, Example, Health, RunAnswer
from tijepa.version import __version__

router = APIRouter(tags=["server"], responses=REFUSALS)


@router.get("/health", summary="Whether the server is up")
async def health(request: Request) -> Health:
    """Answers once the model is loaded. Needs no key."""
    up = time.monotonic() - service_of(request).started
    return Health(status="ok", version=__version__, uptime_seconds=round(up, 3))


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Requests, latencies, batches, queue and memory in Prometheus's text format."""
    service = service_of(request)
    items = None if service.catalogue is None else len(service.catalogue)
    text = service.metrics.exposition(waiting=service.batcher.waiting, items=items)
    return PlainTextResponse(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/about", summary="What is served, and within which limits")
async def about(request: Request) -> About:
    """Model, store, limits, and some items to begin with."""
    service = service_of(request)
    embedder, catalogue, limits = service.embedder, service.catalogue, service.limits
    examples, columns = [], []
    if catalogue is not None:
        examples = await service.in_thread(lambda: catalogue.examples)
        columns = await service.in_thread(lambda: catalogue.columns)
    return About(
        run=service.run.resolve().name,
        version=__version__,
        form=embedder.default_form,
        forms=embedder.forms,
        probability=embedder.match is not None,
        image_size=embedder.card.image_size,
        max_tokens=embedder.card.max_tokens,
        items=None if catalogue is None else len(catalogue),
        store=None if catalogue is None else catalogue.name,
        examples=[Example(row=i.row, caption=min(i.captions, key=len)) for i in examples],
        columns=[
            ColumnAnswer(
                name=c.name,
                written=c.written,
                kind=c.kind,
                values=None if c.values is None else list(c.values),
            )
            for c in columns
        ],
        upload_bytes=limits.upload_bytes,
        pixels=limits.pixels,
        text_length=limits.text_length,
    )


@router.get("/run", summary="The record of the run")
async def run(request: Request) -> RunAnswer:
    """Verdict, retrieval figures and curves, read anew from the run folder."""
    service = service_of(request)
    return await service.in_thread(run_answer, service.run)


def run_answer(folder: Path) -> RunAnswer:
    """What the run folder says now; a saved model without a record says little.

    Curves and history are the HTML of the run's report, in which all text is escaped. Raises
    `CheckpointError` where the folder is gone.
    """
    run = read_run(folder)
    measured, origin = run.best_known("retrieval")
    found = measured.retrieval or Retrieval()
    judged, _ = run.best_known("collapse")
    verdict, reason = shown_verdict(judged.collapse, run.health)
    return RunAnswer(
        name=run.name,
        verdict=verdict,
        sign=sign_of(verdict),
        reason=reason,
        measured=origin,
        image_to_text=_direction(measured, "image_to_text"),
        text_to_image=_direction(measured, "text_to_image"),
        images=_whole(found.num_images),
        texts=_whole(found.num_texts),
        chance=_number(found.chance_at_1),
        facts=_facts(run),
        problems=[why for file, why in run.problems.items() if file != "rejected.jsonl"],
        history=health_section(run),
        curves=curves(run),
    )


def _direction(measured: RunResults, key: str) -> Direction | None:
    if measured.retrieval is None:
        return None
    found = measured.retrieval.directions[key]
    return Direction(**{name: _number(getattr(found, name)) for name in Direction.model_fields})


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    config, environment = run.config or {}, run.environment or {}
    objective, optim = part(config, "objective"), part(config, "optim")
    source = part(config, "data").get("source")
    steps, batch = value(optim, "steps"), value(optim, "batch_size")
    form = None if run.results is None else run.results.form
    started = environment.get("started", environment.get("date"))
    parameters = part(environment, "parameters").get("total", environment.get("parameters"))
    facts = {
        "Objective": plain(objective["name"]) if "name" in objective else None,
        "Searched by": f"{plain(form)} energy" if isinstance(form, str) else None,
        "Data": PurePath(source).name if isinstance(source, str) else None,  # no folders
        "Length": None if math.isnan(steps * batch) else f"{count(steps)} steps of {count(batch)}",
        "Parameters": count(parameters) if isinstance(parameters, (int, float)) else None,
        "Started": date(started) if isinstance(started, str) else None,
    }
    return [(term, words) for term, words in facts.items() if isinstance(words, str)]


def _number(reading: int | float) -> float | None:
    return reading if math.isfinite(reading) else None


def _whole(reading: int | float) -> int | None:
    return int(reading) if math.isfinite(reading) else None
