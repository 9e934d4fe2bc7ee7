"""The application: endpoints behind their gates, the page, one form of error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI

from tijepa.serve import model_routes, run_routes, search_routes
from tijepa.serve.gates import Admission, BodyLimit, Concurrency, Watched
from tijepa.serve.refusals import install_handlers
from tijepa.serve.service import Service
from tijepa.serve.site import mount_page, page_paths
from tijepa.version import __version__

__all__ = ["create_app"]

OPEN = ("/health", "/openapi.json")  # beside the page's own files
COUNTED = ("/embed", "/energy", "/search", "/explain")

ABOUT = """\
Images and texts by energy: low = compatible. Forms are multipart or url-encoded; every error is
`{"error": "one line"}`.
"""


def create_app(
    service: Service, *, key: str | None = None, hosts: Collection[str] | None = None
) -> FastAPI:
    """The application around `service`.

    `key` is what requests must bring as `Authorization: Bearer KEY`, or None; `hosts` are the names
    that a request's Host header may hold, or None for any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="tijepa",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a CDN; ours is in the package
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    for room in (model_routes, search_routes, run_routes):
        app.include_router(room.router)
    mount_page(app)
    install_handlers(app)
    open_to_all = {*OPEN, *page_paths()}
    # the last one added is the first that a request meets
    app.add_middleware(BodyLimit, limits=service.limits)
    app.add_middleware(
        Concurrency, most=service.limits.concurrency, counts=lambda path: path in COUNTED
    )
    app.add_middleware(
        Admission, hosts=hosts, key=key, open_to_all=lambda path: path in open_to_all
    )
    app.add_middleware(Watched, metrics=service.metrics)
    return app
