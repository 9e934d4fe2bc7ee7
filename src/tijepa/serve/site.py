"""The files of the web page, read once and served from memory with a tag of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import Response

__all__ = ["mount_page", "page_paths"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_NAMED = {"/": "index.html", "/docs": "docs.html", "/favicon.ico": "icon.svg"}


def mount_page(app: FastAPI) -> None:
    """Serve the page at /, the description of the endpoints at /docs, and their files."""
    for path, name in page_paths().items():
        content = files("tijepa.serve").joinpath("page", name).read_bytes()
        app.add_api_route(path, _endpoint(content, name), include_in_schema=False)


def page_paths() -> dict[str, str]:
    """URL path → name of a file of the page. They hold nothing private."""
    own = files("tijepa.serve").joinpath("page").iterdir()
    return {**_NAMED, **{f"/page/{one.name}": one.name for one in own}}


def _endpoint(content: bytes, name: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
    kind = _TYPES[name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return answer
