"""What is said of the server and of the run: health, metrics, the record of training."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from tijepa.serve.answers import About, Example, Health, RunAnswer
from tijepa.serve.asked import service_of
from tijepa.serve.metrics import CONTENT_TYPE
from tijepa.serve.record import run_answer
from tijepa.serve.refusals import REFUSALS
from tijepa.version import __version__

__all__ = ["router"]

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
    return PlainTextResponse(text, media_type=CONTENT_TYPE)


@router.get("/about", summary="What is served, and within which limits")
async def about(request: Request) -> About:
    """Model, store, limits, and some items to begin with."""
    service = service_of(request)
    embedder, catalogue, limits = service.embedder, service.catalogue, service.limits
    examples = []
    if catalogue is not None:
        examples = await service.in_thread(lambda: catalogue.examples)
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
        upload_bytes=limits.upload_bytes,
        pixels=limits.pixels,
        text_length=limits.text_length,
    )


@router.get("/run", summary="The record of the run")
async def run(request: Request) -> RunAnswer:
    """Verdict, retrieval figures and curves, read anew from the run folder."""
    service = service_of(request)
    return await service.in_thread(run_answer, service.run)
