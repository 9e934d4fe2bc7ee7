"""The parameters that several endpoints share, as FastAPI reads them from a form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated

from fastapi import File, Form, Request, UploadFile
from fastapi.dependencies.models import Dependant
from starlette.datastructures import UploadFile as Upload
from starlette.exceptions import HTTPException

from tijepa.registry import unknown_name
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.middleware import Limits
from tijepa.serve.service import Service

_FILES = "Image files: JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF. Repeat the field."
_TEXTS = "Texts. Repeat the field for several."
ImagesField = Annotated[list[UploadFile], File(description=_FILES)]
TextsField = Annotated[list[str], Form(description=_TEXTS)]
AnyImages = Annotated[list[UploadFile], File(default_factory=list, description=_FILES)]
AnyTexts = Annotated[list[str], Form(default_factory=list, description=_TEXTS)]


def service_of(request: Request) -> Service:
    """The service of the application that received the request."""
    service: Service = request.app.state.service
    return service


def indexed_store_of(request: Request) -> IndexedStore:
    """Its catalogue; 404 where the server was started without a store."""
    catalogue = service_of(request).catalogue
    if catalogue is None:
        message = "this server has no store to search: start it with tijepa serve RUN STORE"
        raise HTTPException(404, message)
    return catalogue


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuse texts that are empty, too long or too many."""
    if len(texts) > limits.texts:
        raise HTTPException(422, f"{len(texts)} texts exceed the bound of {limits.texts} a request")
    for text in texts:
        if not text.strip():
            raise HTTPException(422, "a text is empty: say something, such as 'a red circle'")
        if len(text) > limits.text_length:
            raise HTTPException(
                413,
                f"a text of {len(text):,} characters exceeds the bound of {limits.text_length:,}",
            )


async def only_known(request: Request) -> None:
    """Refuse parameters that the route does not have, and JSON where a form is wanted."""
    query, form = _names(request.scope["route"].dependant)
    _check_known("parameter", request.query_params.keys(), query)
    if not form:
        return
    if request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "the body is JSON: send a form, multipart or url-encoded")
    _check_known("field", (await request.form()).keys(), form)


def _names(dependant: Dependant) -> tuple[set[str], set[str]]:
    """Names of the query's parameters and of the form's fields."""
    query = {field.alias for field in dependant.query_params}
    form = {field.alias for field in dependant.body_params}
    for part in dependant.dependencies:
        further = _names(part)
        query, form = query | further[0], form | further[1]
    return query, form


def _check_known(what: str, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise HTTPException(422, unknown_name(what, name, known))


async def contents(uploads: Sequence[Upload], limits: Limits) -> list[bytes]:
    """The bytes of the images, which together lie within the bound of a request."""
    if len(uploads) > limits.images:
        raise HTTPException(
            422, f"{len(uploads)} images exceed the bound of {limits.images} a request"
        )
    return [await upload.read() for upload in uploads]
