"""Hard negatives on scenes: does the true caption have less energy than the same words made false?

Three ways of making a caption false, each on all scenes that allow it:

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

__all__ = ["KINDS", "Accuracy", "accuracy", "hard_negatives"]


@dataclass(frozen=True)
class _Kind:
    """How a true caption becomes false, and whether scenes without a relation allow it."""

    make: Callable[[Scene, int], str]
    any_scene: bool


KINDS: dict[str, _Kind] = {
    "attributes": _Kind(swap_hard_negative, any_scene=True),
    "predicate": _Kind(invert_hard_negative, any_scene=False),
    "exchange": _Kind(exchange_hard_negative, any_scene=False),
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

    Scene k is asked with its wording number k mod 5. A kind that no scene allows is left out.
    """
    size = embedder.card.image_size
    inputs: list[Tensor] = []
    texts: list[str] = []  # of each scene the true caption, then what each kind makes of it
    kinds: list[list[str]] = []
    for row in range(min(items, len(scenes))):
        scene, wording = scenes.scene(row), row % NUM_WORDINGS
        pixels = scenes.image(row, size)
        assert pixels is not None
        inputs.append(normalise(pixels[None], embedder.card.mean, embedder.card.std)[0])
        kinds.append([name for name, kind in KINDS.items() if scene.relation or kind.any_scene])
        texts.append(scenes.captions(row)[wording])
        texts += [KINDS[name].make(scene, wording) for name in kinds[-1]]
    e = embedder.embeddings_of_inputs(torch.stack(inputs), texts)
    true: dict[str, list[Tensor]] = {name: [] for name in KINDS}
    false: dict[str, list[Tensor]] = {name: [] for name in KINDS}
    start = 0
    for row, names in enumerate(kinds):
        stop = start + 1 + len(names)
        own = e.images(slice(row, row + 1)).texts(slice(start, stop))
        energy = embedder.energy_of(own, embedder.default_form)[0]
        for name, value in zip(names, energy[1:], strict=True):
            true[name].append(energy[0])
            false[name].append(value)
        start = stop
    return {
        name: accuracy(torch.stack(true[name]), torch.stack(false[name]))
        for name in KINDS
        if true[name]
    }
