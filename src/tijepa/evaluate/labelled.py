"""Pictures with a label: the items of a split whose column has a value, or scenes of one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.images import centre_square, normalise
from tijepa.data.pairs import PairSource, Picture
from tijepa.data.scenes import Scenes
from tijepa.data.store.source import StoreSource
from tijepa.errors import DataError
from tijepa.model.saving import ModelCard

__all__ = ["SCENE_COLUMNS", "LabelledPictures", "labelled_pictures"]

SCENE_COLUMNS = ("colour", "shape", "size")  # of scenes of one object

_AT_ONCE = 64  # items read together
_SCENES = 1 << 24  # of which about 15 % have one object


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures ready to encode and the value of each."""

    images: Float[Tensor, "i 3 s s"]
    values: list[str]


def labelled_pictures(
    source: PairSource, column: str, card: ModelCard, items: int
) -> LabelledPictures:
    """The first `items` pictures whose `column` has a value; unreadable ones are left out.

    Columns of scenes are colour, shape and size of the object, of the split's scenes that have one
    object; there are few of different content, so content may repeat. Raises `DataError` where
    there is no such column, no picture with a value, or a value that is no label.
    """
    pairs = _of_scenes(source, column) if isinstance(source, Scenes) else _of_rows(source, column)
    images, values = [], []
    for value, picture in pairs:
        try:
            pixels = picture.pixels(card.image_size)
        except DataError:  # listed as set aside when a batch needs it
            continue
        square = centre_square(pixels, card.image_size)
        images.append(normalise(square[None], card.mean, card.std)[0])
        values.append(_label(value, column))
        if len(images) == items:
            break
    if not images:
        raise DataError(f"no picture of this split has a value in column '{column}': name another")
    return LabelledPictures(torch.stack(images), values)


def _of_scenes(source: Scenes, column: str) -> Iterator[tuple[Any, Picture]]:
    if column not in SCENE_COLUMNS:
        raise DataError(
            f"column '{column}' is unknown in scenes; known: {', '.join(SCENE_COLUMNS)}"
        )
    stream = Scenes(source.split, _SCENES, source.seed, source.image_size)
    for index in range(_SCENES):
        things = stream.scene(index).objects
        picture = stream.read([index])[0].picture if len(things) == 1 else None
        if picture is not None:
            yield getattr(things[0], column), picture


def _of_rows(source: PairSource, column: str) -> Iterator[tuple[Any, Picture]]:
    if not isinstance(source, StoreSource) or column not in source.columns:
        columns = source.columns if isinstance(source, StoreSource) else ()
        known = f"known: {', '.join(columns)}" if columns else "it has no columns of its own"
        raise DataError(f"column '{column}' is unknown in this source; {known}")
    indexes = iter(range(len(source)))
    while part := list(islice(indexes, _AT_ONCE)):
        values = source.extra(column, part)
        for value, item in zip(values, source.read(part), strict=True):
            if value is not None and item.picture is not None:
                yield value, item.picture


def _label(value: Any, column: str) -> str:
    if not isinstance(value, (str, int)):  # bool is an int
        raise DataError(
            f"column '{column}' holds {value!r}: labels are strings, whole numbers, true or false"
        )
    return str(value)
