"""Recall at 1 of a trained run on its held-out splits."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from grid.training import Training
from tijepa.errors import NonFiniteError
from tijepa.evaluate.measure import EvaluationSet
from tijepa.evaluate.retrieval import retrieval
from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Form

__all__ = ["Judge", "recalls", "trained_recalls"]

Judge = Callable[[Embedder, EvaluationSet, str], dict[str, Any]]
_ENDS = ("", "_image_to_text", "_text_to_image")


def recalls(
    embedder: Embedder, data: EvaluationSet, name: str, form: Form | None = None
) -> dict[str, Any]:
    """Under `name` the mean of both directions by `form`, the model's default; each; by cosine."""
    e = embedder.embeddings_of_inputs(data.images, data.texts)
    form = form or embedder.default_form
    by_form = {
        form: retrieval(embedder.search_energies_of(e, form), data.image_of_text)
        for form in dict.fromkeys((form, "cosine"))
    }
    found = by_form[form]
    ways = (found.image_to_text, found.text_to_image)
    return {
        name: found.mean_recall_at_1,
        f"{name}_image_to_text": found.image_to_text.recall_at_1,
        f"{name}_text_to_image": found.text_to_image.recall_at_1,
        f"{name}_recall_at_10": fmean(way.recall_at_10 for way in ways),
        f"{name}_by_form": {form: of.mean_recall_at_1 for form, of in by_form.items()},
    }


def trained_recalls(training: Training, judge: Judge = recalls) -> dict[str, Any]:
    """What `judge` finds on the splits of a run that is over, its cost; zeros where it diverged."""
    cost = {"seconds": training.seconds, "pairs_per_second": training.pairs_per_second}
    splits = training.held.held_out
    try:
        embedder = None if training.diverged else training.embedder()
    except NonFiniteError:
        embedder = None
    if embedder is None:
        lost = {f"{split}{end}": 0.0 for split in splits for end in _ENDS}
        return {**lost, **cost, "diverged": training.step}
    found: dict[str, Any] = {}
    for split, data in splits.items():
        found |= judge(embedder, data, split)
    return found | cost
