"""Every error as one line of JSON: {"error": "…"}, in 4xx the caller's matter, in 500 ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from tijepa.errors import ImageError, TijepaError
from tijepa.serve.schemas import Problem

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in (
        (400, "A value that the model or the store cannot take."),
        (401, "The API key is missing or wrong."),
        (404, "There is no such thing, or no store."),
        (408, "The request did not arrive in time."),
        (413, "A body, image or text beyond its bound."),
        (415, "A file that is no image of a known format, or JSON in place of a form."),
        (422, "A parameter that is missing, unknown or out of bounds, or a damaged image."),
        (429, "Too many requests at once; Retry-After says when to try again."),
    )
}
_IMAGE = {"image-too-large": 413, "image-unknown-format": 415}
_LOG = logging.getLogger("tijepa.serve")


def install_handlers(app: FastAPI) -> None:
    """Answer the package's errors, FastAPI's and Starlette's in one form."""
    app.add_exception_handler(TijepaError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _bug)


def status_of(error: TijepaError) -> int:
    """413 and 415 for images too large or of no known format, 422 for damaged ones, else 400."""
    if isinstance(error, ImageError):
        return _IMAGE.get(error.kind, 422)
    return 400


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer from a middleware, where no handler is reached."""
    await _answer(status, message, headers)(scope, receive, send)


def _answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    line = " ".join(message.split())
    return JSONResponse({"error": line}, status, headers=dict(headers or {}))


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TijepaError)
    return _answer(status_of(error), str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first of what is wrong with a request's values, and where."""
    assert isinstance(error, RequestValidationError)
    first: Any = error.errors()[0]
    where = [str(name) for name in first["loc"][1:]] or ["the request"]
    return _answer(422, f"{'.'.join(where)}: {first['msg']}")


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    if status == 404 and detail == "Not Found":
        detail = f"there is no {request.url.path}: /docs lists what there is"
    elif status == 405:
        detail = f"{request.url.path} does not take {request.method}: /docs says what it takes"
    elif detail.startswith("Part exceeded maximum size"):
        limits = request.app.state.service.limits
        status, detail = 413, f"a text exceeds the bound of {limits.text_length:,} characters"
    return _answer(status, detail, error.headers)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, "the server failed at this request; its log says where")
