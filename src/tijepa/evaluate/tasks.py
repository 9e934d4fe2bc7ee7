"""The energy of every task on held-out pairs, and on the same images with the wrong texts.

The gap between the two is what a task knows about the pair; a task whose gap is nothing predicts
from one modality alone (the wrong-text control that text-conditioned prediction needs, since text
is easily ignored, arXiv 2605.03245). Where the text also makes the target, both exchange it; the
control proper then keeps the target and gives the wrong text to the context alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tijepa.data.pairs import Batch
from tijepa.data.tokenizer import Tokenizer
from tijepa.evaluate.measure import EvaluationSet
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import TASKS, Counts, Encodings, Objective
from tijepa.objectives.forward import encode, pooled_of
from tijepa.objectives.fused import fused_targets

PAIRS = 256
PREFIX = "energy/"


def held_out_batch(data: EvaluationSet, tokenizer: Tokenizer, max_tokens: int) -> Batch:
    """The first 256 images of an evaluation set, each with its first text."""
    count = min(PAIRS, len(data.images))
    first = data.first_text[:count]
    texts = [data.texts[k] for k in first.tolist()]
    image, text = data.image_features, data.text_features
    tokens = tokenizer.encode(texts, max_tokens)
    every = torch.ones(count, dtype=torch.bool)
    return Batch(
        images=data.images[:count],
        has_image=every,
        tokens=tokens.ids,
        token_mask=tokens.mask,
        has_text=every,
        indices=torch.tensor(data.indices[:count]),
        cursor=0,
        image_features=None if image is None else image.rows(slice(0, count)),
        text_features=None if text is None else text.rows(first),
    )


@torch.no_grad()
def task_energies(
    model: TextImageModel, objective: Objective, batch: Batch
) -> dict[str, dict[str, float]]:
    """For each energy of the objective (`TASK/pooled`, `TASK/tokens`): matched, shuffled, gap.

    Means over the batch, unweighted; shuffled pairs each image with the text of the image half a
    batch further. Tasks of one modality have no pair to shuffle: they get `matched` alone.
    Objectives without energies (CLIP, SigLIP) give an empty dictionary. Leaves the model in
    evaluation mode.

    A fused task has further the `wrong_text` energy of a context with the wrong text and the
    target of the right one, its `wrong_text_gap` to the matched energy, and `target_variance`, the
    variance of the layer-normalised target tokens over the images, mean over patches and
    dimensions: 0 where the target is a constant, the trivial solution, and at most 1.
    """
    model.eval()
    shift = len(batch) // 2
    text = batch.text_features
    shuffled_batch = replace(
        batch,
        tokens=batch.tokens.roll(shift, 0),
        token_mask=batch.token_mask.roll(shift, 0),
        text_features=None if text is None else text.roll(shift),
    )
    right, wrong = encode(model, objective, batch), encode(model, objective, shuffled_batch)
    matched = _energies(model, objective, batch, right)
    shuffled = _energies(model, objective, shuffled_batch, wrong)
    found: dict[str, dict[str, float]] = {}
    for name, energy in matched.items():
        found[name] = {"matched": energy}
        task = TASKS[name.partition("/")[0]]
        if task.needs_image and task.needs_text:
            found[name] |= {"shuffled": shuffled[name], "gap": shuffled[name] - energy}
    fused = [name for name in found if TASKS[name.partition("/")[0]].fused]
    if fused:
        misled = replace(wrong, target_text=right.target_text)
        control = _energies(model, objective, shuffled_batch, misled)
        variance = float(fused_targets(model, right).tokens.var(dim=0, correction=0).mean())
        for name in fused:
            found[name] |= {
                "wrong_text": control[name],
                "wrong_text_gap": control[name] - matched[name],
                "target_variance": variance,
            }
    return found


def _energies(
    model: TextImageModel, objective: Objective, batch: Batch, encodings: Encodings
) -> dict[str, float]:
    """All energy readings, with masks that are the same every time."""
    masks = objective.draw_masks(batch, model.context.image.grid, np.random.default_rng(0))
    terms = [
        objective.batch_terms(
            model, pooled_of([encodings], batch), torch.Generator().manual_seed(0)
        ),
        objective.item_terms(model, batch, encodings, masks, Counts.of(batch)),
    ]
    readings = [reading for part in terms if part is not None for reading in part.readings.items()]
    return {
        name.removeprefix(PREFIX): float(value)
        for name, value in readings
        if name.startswith(PREFIX)
    }
