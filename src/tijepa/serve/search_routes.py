"""What needs a store: search in it, its items and their images."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tijepa.inference.calibration import joint_of
from tijepa.inference.match_probability import BASE_RATE
from tijepa.io.formatting import without_nan
from tijepa.search.exact import fits
from tijepa.serve.dependencies import (
    check_texts,
    contents,
    indexed_store_of,
    only_known,
    service_of,
)
from tijepa.serve.errors import REFUSALS
from tijepa.serve.indexed_store import Among
from tijepa.serve.schemas import Found, ItemAnswer, SearchAnswer

MOST_HITS = 200
SIDES = (160, 320, 640, 1280)  # pixels of a shown image; few, so that they are remembered

router = APIRouter(tags=["search"], responses=REFUSALS, dependencies=[Depends(only_known)])

_WHERE = "Condition on the store's columns in SQL, such as split = 'test'."
_BY = "What the items are found by: their captions, or the likeness of their image."
_ROW = "Number of the item in the store, from 0."


@router.get("/search", summary="Find images by words")
async def search_by_text(
    request: Request,
    text: Annotated[str, Query(description="What to look for.")],
    k: Annotated[int, Query(ge=1, le=MOST_HITS, description="Items to return at most.")] = 24,
    where: Annotated[str | None, Query(max_length=2000, description=_WHERE)] = None,
) -> SearchAnswer:
    """Images in order of their score for the text."""
    return await _search(request, None, text, k, where, "images")


@router.post("/search", summary="Find items by an image, or by words")
async def search_by_image(
    request: Request,
    image: Annotated[UploadFile | None, File(description="One image file.")] = None,
    text: Annotated[str | None, Form(description="Instead: what to look for.")] = None,
    k: Annotated[int, Form(ge=1, le=MOST_HITS, description="Items to return at most.")] = 24,
    where: Annotated[str | None, Form(max_length=2000, description=_WHERE)] = None,
    by: Annotated[Literal["captions", "likeness"], Form(description=_BY)] = "captions",
) -> SearchAnswer:
    """Items by the score of their nearest caption for the image, or by likeness to it."""
    if (image is None) == (text is None):
        raise HTTPException(422, "send either an image as image, or a text")
    if text is not None and by == "likeness":
        raise HTTPException(422, "only an image can ask by likeness: leave out by")
    among: Among = "images" if text is not None else "texts" if by == "captions" else "alike"
    return await _search(request, image, text, k, where, among)


@router.get("/items/{row}", summary="One item of the store")
async def item(request: Request, row: int) -> ItemAnswer:
    """Captions and size of an item."""
    found = await service_of(request).in_thread(indexed_store_of(request).item, row)
    if found is None:
        raise _no_row(request, row)
    return ItemAnswer(**{**vars(found), "captions": list(found.captions)})


@router.get(
    "/items/{row}/image",
    summary="The image of an item",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}, "description": "The image."},
        304: {"description": "The image has not changed."},
    },
)
async def image(
    request: Request,
    row: int,
    side: Annotated[int, Query(ge=1, le=SIDES[-1], description="Most pixels a side.")] = 320,
) -> Response:
    """JPEG, scaled down where it is larger: to 160, 320, 640 or 1280 pixels a side."""
    catalogue = indexed_store_of(request)
    size = next(one for one in SIDES if one >= side)
    tag = f'"{catalogue.identity}-{row}-{size}"'
    # another server may stand at this address next time, with another store
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    made = await service_of(request).in_thread(catalogue.image, row, size)
    if made is None:
        raise _no_row(request, row)
    return Response(made, media_type="image/jpeg", headers=headers)


async def _search(
    request: Request,
    image: UploadFile | None,
    text: str | None,
    k: int,
    where: str | None,
    among: Among,
) -> SearchAnswer:
    started = time.perf_counter()
    service, catalogue = service_of(request), indexed_store_of(request)
    texts = [] if text is None else [text]
    check_texts(texts, service.limits)
    uploads = [] if image is None else [image]
    received = await service.receive(await contents(uploads, service.limits))
    e = await service.embeddings([one.inputs for one in received], texts)
    image_rows, text_rows = joint_of(e, catalogue.form, service.embedder.calibration)
    query = text_rows if texts else image_rows
    condition = where if where and where.strip() else None
    hits = await service.in_thread(catalogue.search, query, among, k, condition)
    return SearchAnswer(
        form="cosine" if among == "alike" else catalogue.form,
        items=len(catalogue),
        seconds=time.perf_counter() - started,
        base_rate=None if fits(hits) is None else BASE_RATE,
        fits=fits(hits),
        hits=[Found(**without_nan(vars(hit))) for hit in hits],
    )


def _no_row(request: Request, row: int) -> HTTPException:
    return HTTPException(
        404, f"the store has no image in row {row}: it has {len(indexed_store_of(request)):,} rows"
    )
