"""Choose the queries of the report's gallery and look up what the model answers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.pairs import PairSource
from tijepa.evaluate.model import EvaluationSet
from tijepa.evaluate.queries import Query, Result

__all__ = ["top_retrievals"]

QUERIES = 6
ANSWERS = 5
MIN_SIDE = 96


def top_retrievals(
    data: EvaluationSet, energy: Float[Tensor, "i t"], source: PairSource
) -> list[Query]:
    """The five lowest energies for a few texts and a few images, spread evenly over the set.

    The queries are not picked by result: failures show as often as they happen.
    """
    queries = []
    for text in _spread(len(data.texts)):
        results = [
            Result(
                energy=float(energy[image, text]),
                is_match=int(data.image_of_text[text]) == image,
                picture=source.image(data.indices[image], MIN_SIDE),
                caption=_caption(data, image),
            )
            for image in _lowest(energy[:, text])
        ]
        queries.append(Query(kind="text_to_image", text=data.texts[text], results=results))
    for image in _spread(len(data.images)):
        results = [
            Result(
                energy=float(energy[image, text]),
                is_match=int(data.image_of_text[text]) == image,
                caption=data.texts[text],
            )
            for text in _lowest(energy[image])
        ]
        picture = source.image(data.indices[image], MIN_SIDE)
        queries.append(Query(kind="image_to_text", picture=picture, results=results))
    return queries


def _lowest(energies: Tensor) -> list[int]:
    order: list[int] = energies.topk(min(ANSWERS, len(energies)), largest=False).indices.tolist()
    return order


def _spread(count: int) -> list[int]:
    return sorted({int(k) for k in torch.linspace(0, count - 1, min(QUERIES, count)).tolist()})


def _caption(data: EvaluationSet, image: int) -> str:
    return data.texts[int((data.image_of_text == image).nonzero()[0])]
