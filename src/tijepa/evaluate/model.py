"""Evaluate a model on one split: embeddings once, then retrieval by every form of energy, collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tijepa.data.loader import load_images
from tijepa.data.pairs import PairSource
from tijepa.embedder import Embedder
from tijepa.errors import DataError
from tijepa.evaluate.collapse import collapse_readings
from tijepa.evaluate.retrieval import retrieval
from tijepa.objectives.calibration import Calibration, fit_calibration
from tijepa.objectives.embeddings import Embeddings

__all__ = ["EvaluationSet", "Measured", "calibrate", "evaluation_set", "measure"]


@dataclass(frozen=True)
class EvaluationSet:
    """Some items of a split that have both modalities, decoded and ready to encode."""

    images: Float[Tensor, "i 3 s s"]
    texts: list[str]
    image_of_text: Int[Tensor, " t"]
    indices: list[int]


@dataclass(frozen=True)
class Measured:
    """Embeddings of an evaluation set, the energy by the default form, and the results."""

    embeddings: Embeddings
    energy: Float[Tensor, "i t"]
    results: dict[str, Any]


def evaluation_set(
    source: PairSource, *, items: int, captions: int, image_size: int
) -> EvaluationSet:
    """The first `items` items of `source` with image and text; `captions` of each (0: all).

    Unreadable images are left out. Raises `DataError` where fewer than two items remain.
    """
    images: list[Tensor] = []
    texts: list[str] = []
    owner: list[int] = []
    indices: list[int] = []
    for index in range(len(source)):
        if len(indices) == items:
            break
        own = source.captions(index)
        if not own:
            continue
        try:
            image = load_images(source, [index], image_size)
        except DataError:
            continue
        texts += own[: captions or None]
        owner += [len(indices)] * len(own[: captions or None])
        images.append(image)
        indices.append(index)
    if len(indices) < 2:
        raise DataError(
            f"only {len(indices)} items with image and text to evaluate on; at least 2 are needed"
        )
    return EvaluationSet(torch.cat(images), texts, torch.tensor(owner), indices)


def calibrate(
    embedder: Embedder, pairs: EvaluationSet, shrinkages: Sequence[float] = (0.5,)
) -> Calibration:
    """Fit the calibrated energy on training pairs: one caption per image."""
    e = embedder.embeddings_of_inputs(pairs.images, pairs.texts)
    first = torch.tensor(
        [int((pairs.image_of_text == i).nonzero()[0]) for i in range(len(e.image))]
    )
    return fit_calibration(e.texts(first), shrinkages[0])


def measure(embedder: Embedder, data: EvaluationSet) -> Measured:
    """Retrieval by every form of energy that the model has, and the collapse readings.

    `results` holds `retrieval` (by the default form), `form`, `energies` (by every form) and
    `collapse`, as described in docs/architecture.md.
    """
    e = embedder.embeddings_of_inputs(data.images, data.texts)
    energies = {form: embedder.energy_of(e, form) for form in embedder.forms}
    by_form = {
        form: retrieval(energy, data.image_of_text).to_dict() for form, energy in energies.items()
    }
    form = embedder.default_form
    # matched against shuffled in the form that is ≥ 0 and was trained on, one caption per image
    plain = energies["squared_l2" if embedder.model.predictors is not None else "cosine"]
    matched = plain[data.image_of_text, torch.arange(len(data.texts))]
    shift = len(data.images) // 2
    other = (data.image_of_text + shift) % len(data.images)
    shuffled = plain[other, torch.arange(len(data.texts))]
    collapse = collapse_readings(e.image, e.text, matched, shuffled)
    results = {
        "retrieval": by_form[form],
        "form": form,
        "energies": by_form,
        "collapse": collapse.to_dict(),
    }
    return Measured(e, energies[form], results)
