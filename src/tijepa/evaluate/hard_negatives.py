"""Hard negatives on scenes: does the true caption have less energy than the same words made false?

Three ways of making a caption false, each on the same scenes of two to four objects (a scene of
one has nothing to exchange):

- `attributes`: two objects exchange their colours (or shapes);
- `predicate`: the relation becomes its opposite;
- `exchange`: subject and object of the relation change places, the words stay the same.

Chance is one half. A tie, or an energy that is not a number, counts as wrong: a model that has
collapsed gets 0, and one that reads a caption as a bag of words gets 0 by `exchange`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.images import normalise
from tijepa.data.scenes import (
    Scene,
    Scenes,
    exchange_hard_negative,
    invert_hard_negative,
    swap_hard_negative,
)
from tijepa.data.scenes.wording import NUM_WORDINGS
from tijepa.embedder import Embedder
from tijepa.errors import DataError

__all__ = ["KINDS", "Accuracy", "accuracy", "hard_negatives"]


KINDS: dict[str, Callable[[Scene, int], str]] = {
    "attributes": swap_hard_negative,
    "predicate": invert_hard_negative,
    "exchange": exchange_hard_negative,
}


@dataclass(frozen=True)
class Accuracy:
    """Share of `pairs` in which the true caption has the lower energy."""

    accuracy: float
    pairs: int

    def to_dict(self) -> dict[str, float | int]:
        """Plain numbers for JSON."""
        return {"accuracy": self.accuracy, "pairs": self.pairs}


def accuracy(true: Float[Tensor, " n"], false: Float[Tensor, " n"]) -> Accuracy:
    """Of energies of n images, each with its true and its false caption; of none it is 0."""
    return Accuracy(float((true < false).double().sum()) / max(1, len(true)), len(true))


def hard_negatives(embedder: Embedder, scenes: Scenes, items: int) -> dict[str, Accuracy]:
    """The accuracy for each of `KINDS` on the first `items` scenes, by the model's default energy.

    Scenes of one object are left out. Scene k is asked with its wording number k mod 5.
    """
    size = embedder.card.image_size
    inputs: list[Tensor] = []
    texts: list[str] = []  # of each scene the true caption, then what each kind makes of it
    for row in range(min(items, len(scenes))):
        scene, wording = scenes.scene(row), row % NUM_WORDINGS
        if scene.relation is None:
            continue
        pixels = scenes.image(row, size)
        assert pixels is not None
        inputs.append(normalise(pixels[None], embedder.card.mean, embedder.card.std)[0])
        texts.append(scenes.captions(row)[wording])
        texts += [make(scene, wording) for make in KINDS.values()]
    if not inputs:
        raise DataError(f"none of {items} scenes has two objects: ask more of them")
    e = embedder.embeddings_of_inputs(torch.stack(inputs), texts)
    each = 1 + len(KINDS)
    energy = torch.cat(
        [
            embedder.energy_of(
                e.images(slice(row, row + 1)).texts(slice(each * row, each * (row + 1))),
                embedder.default_form,
            )
            for row in range(len(inputs))
        ]
    )
    return {name: accuracy(energy[:, 0], energy[:, number]) for number, name in enumerate(KINDS, 1)}
