"""The application: endpoints behind their gates, the page, one form of error."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tijepa.io.page import TEMPLATES
from tijepa.serve import model_routes, run_routes, search_routes
from tijepa.serve.errors import install_handlers
from tijepa.serve.middleware import Admission, BodyLimit, Concurrency, Watched
from tijepa.serve.service import Service
from tijepa.version import __version__

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
    app.add_middleware(Admission, key=key, open_to_all=lambda path: path in open_to_all)
    app.add_middleware(
        TrustedHostMiddleware,
        allowed_hosts=["*"] if hosts is None else list(hosts),
        www_redirect=False,
    )
    app.add_middleware(Watched, metrics=service.metrics)
    return app


_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGE = Path(__file__).parent / "page"
_SHARED = "figures.css"  # dresses charts and tables of the run, as on its report
_NAMED = {"/": "index.html", "/docs": "docs.html", "/favicon.ico": "icon.svg"}


def mount_page(app: FastAPI) -> None:
    """Serve the page at /, the description of the endpoints at /docs, and their files."""
    for path, name in page_paths().items():
        content = (TEMPLATES if name == _SHARED else _PAGE).joinpath(name).read_bytes()
        app.add_api_route(path, _endpoint(content, name), include_in_schema=False)


def page_paths() -> dict[str, str]:
    """URL path → name of a file of the page. They hold nothing private."""
    return {**_NAMED, **{f"/page/{name}": name for name in (_SHARED, *os.listdir(_PAGE))}}


def _endpoint(content: bytes, name: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
    kind = _TYPES[name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer
