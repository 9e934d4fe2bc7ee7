"""What the model alone answers: embeddings, energies, energy maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from starlette.exceptions import HTTPException

from tijepa.evaluate.grounding import FLAT_FROM, UNRELATED, sameness
from tijepa.inference.calibration import joint_of
from tijepa.inference.embeddings import Form as EnergyForm
from tijepa.inference.inputs import occluded, occlusion_masks
from tijepa.inference.match_probability import BASE_RATE
from tijepa.serve.dependencies import (
    AnyImages,
    AnyTexts,
    ImagesField,
    TextsField,
    check_texts,
    contents,
    indexed_store_of,
    only_known,
    service_of,
)
from tijepa.serve.errors import REFUSALS
from tijepa.serve.schemas import EmbedAnswer, EnergyAnswer, EnergyMap, ExplainAnswer
from tijepa.serve.service import Service

router = APIRouter(tags=["model"], responses=REFUSALS, dependencies=[Depends(only_known)])

FormField = Annotated[
    EnergyForm | None, Form(description="Form of the energy; by default the model's own.")
]


@router.post("/embed", summary="Embed images and texts")
async def embed(
    request: Request, image: AnyImages, text: AnyTexts, form: FormField = None
) -> EmbedAnswer:
    """Joint embeddings of images and texts.

    With the calibrated form the energy of a pair is minus the inner product of its two embeddings,
    with the cosine form 1 minus it.
    """
    service = service_of(request)
    _check_any(image, text)
    check_texts(text, service.limits)
    form = _known_form(service, form)
    received = await service.receive(await contents(image, service.limits))
    e = await service.embeddings([one.inputs for one in received], text)
    images, texts = joint_of(e, form, service.embedder.calibration)
    return EmbedAnswer(
        form=form, dimensions=images.shape[1], images=images.tolist(), texts=texts.tolist()
    )


@router.post("/energy", summary="Energy of every image with every text")
async def energy(
    request: Request, image: ImagesField, text: TextsField, form: FormField = None
) -> EnergyAnswer:
    """Energies, low = compatible, and probabilities of match."""
    service = service_of(request)
    check_texts(text, service.limits)
    form = _known_form(service, form)
    received = await service.receive(await contents(image, service.limits))
    e = await service.embeddings([one.inputs for one in received], text)
    found = service.embedder.energy_of(e, form)
    match = service.embedder.match if form == service.embedder.default_form else None
    return EnergyAnswer(
        form=form,
        energy=found.tolist(),
        probability=None if match is None else match.probability(found).tolist(),
    )


@router.post("/explain", summary="Where in an image a text fits")
async def explain(
    request: Request,
    text: TextsField,
    image: Annotated[UploadFile | None, File(description="One image file.")] = None,
    row: Annotated[int | None, Form(description="Instead: an item of the store.")] = None,
    grid: Annotated[int, Form(ge=1, le=16, description="Cells a side; grid² images.")] = 8,
) -> ExplainAnswer:
    """Energy of a text with what an occlusion mask leaves of the image, cell by cell.

    Any text has a map: it says where the text fits best, not whether it does. The cells divide the
    largest centred square of the image, which is what the model sees of it.
    """
    service = service_of(request)
    check_texts(text, service.limits)
    if (image is None) == (row is None):
        raise HTTPException(
            422, "send either an image as image, or the row of an item of the store"
        )
    if image is not None:
        data = (await contents([image], service.limits))[0]
    else:
        assert row is not None
        found = await service.in_thread(indexed_store_of(request).file, row)
        if found is None:
            raise HTTPException(404, f"the store has no image in row {row}")
        data = found
    received = (await service.receive([data]))[0]
    size = service.embedder.card.image_size
    if grid > size // 2:
        raise HTTPException(422, f"grid is {grid}: it must lie between 1 and {size // 2}")
    seen = await service.in_thread(occluded, received.inputs, occlusion_masks(size, grid))
    e = await service.embeddings([received.inputs, *seen], [*text, *UNRELATED])
    form = service.embedder.default_form
    values = service.embedder.energy_of(e, form)
    match = service.embedder.match
    pair, values = values[0, : len(text)], values[1:]
    unrelated = values[:, len(text) :].T.reshape(-1, grid, grid)
    energy = values[:, : len(text)].T.reshape(-1, grid, grid)
    same = [sameness(one, unrelated) for one in energy]
    probability = [None] * len(text) if match is None else match.probability(pair).tolist()
    lowest = energy.flatten(1).argmin(dim=1).tolist()
    return ExplainAnswer(
        form=form,
        grid=grid,
        width=received.width,
        height=received.height,
        base_rate=None if match is None else BASE_RATE,
        maps=[
            EnergyMap(
                text=one,
                energy=energy[k].tolist(),
                row=lowest[k] // grid,
                column=lowest[k] % grid,
                pair=float(pair[k]),
                probability=probability[k],
                sameness=same[k],
                flat=same[k] >= FLAT_FROM,
            )
            for k, one in enumerate(text)
        ],
    )


def _known_form(service: Service, form: EnergyForm | None) -> EnergyForm:
    """The form asked for, by default the model's; refused before anything is encoded."""
    forms = service.embedder.forms
    if form is not None and form not in forms:
        raise HTTPException(422, f"this model has no {form} energy: it has {', '.join(forms)}")
    return form or forms[0]


def _check_any(images: Sequence[object], texts: Sequence[str]) -> None:
    if not images and not texts:
        raise HTTPException(422, "there is nothing to embed: send an image as image, or a text")
