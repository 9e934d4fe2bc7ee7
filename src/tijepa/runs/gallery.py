"""Choose the gallery of a report: queries spread evenly over the held-out items, not picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.pairs import PairSource
from tijepa.evaluate.measure import EvaluationSet
from tijepa.inference.embeddings import SearchEnergies

IMAGE_SIDE = 160  # pixels of the shorter side, at least, where the original has as many
ANSWERS = 5


def gallery_of(
    evaluation: EvaluationSet, energy: SearchEnergies, source: PairSource, count: int = 6
) -> list[Query]:
    """`count` texts that ask for images, then `count` images that ask for texts.

    Rows and columns of `energy` follow `evaluation`, whose items come from `source`. The five
    answers of lowest energy are kept, best first; energies that are not numbers come last. Raises
    `DataError` where an image can no longer be read.
    """
    images, texts = energy.images.detach().cpu(), energy.texts.detach().cpu()
    owner: list[int] = evaluation.image_of_text.tolist()

    def by_text(text: int) -> Query:
        rows = _lowest(images[:, text])
        answers = [
            Result(
                energy=float(images[row, text]),
                is_match=row == owner[text],
                image=source.image(evaluation.indices[row], IMAGE_SIDE),
                caption=evaluation.texts[owner.index(row)] if row in owner else None,
            )
            for row in rows
        ]
        return Query("text_to_image", answers, text=evaluation.texts[text])

    def by_image(row: int) -> Query:
        answers = [
            Result(
                energy=float(texts[row, text]),
                is_match=owner[text] == row,
                caption=evaluation.texts[text],
            )
            for text in _lowest(texts[row])
        ]
        image = source.image(evaluation.indices[row], IMAGE_SIDE)
        return Query("image_to_text", answers, image=image)

    return [
        *(by_text(text) for text in _spread(images.shape[1], count)),
        *(by_image(row) for row in _spread(images.shape[0], count)),
    ]


def _lowest(energies: Float[Tensor, " n"]) -> list[int]:
    order = energies.masked_fill(energies.isnan(), torch.inf).argsort(stable=True)
    found: list[int] = order[:ANSWERS].tolist()
    return found


def _spread(size: int, count: int) -> list[int]:
    """At most `count` positions, each in the middle of an equal share of `size`."""
    count = min(size, count)
    return [(2 * k + 1) * size // (2 * count) for k in range(count)]


# One query of the gallery and its answers, as the report shows them.


@dataclass(frozen=True)
class Result:
    """One answer: an image, uint8 (height, width, 3), or a caption; with its energy."""

    energy: float
    is_match: bool
    image: np.ndarray | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Query:
    """A text that asks for images, or an image, uint8 (height, width, 3), that asks for texts.

    `results` come best first; the gallery shows the first five. `caption` of an answer that is a
    image is optional and becomes its alternative text.
    """

    kind: Literal["text_to_image", "image_to_text"]
    results: Sequence[Result]
    text: str | None = None
    image: np.ndarray | None = None
