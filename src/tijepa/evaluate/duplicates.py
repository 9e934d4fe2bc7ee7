"""Recall that knows of duplicates: an equal image, or the same words, is the right answer as well.

Web collections hold an image twice, and many images with the caption "dog". Plain recall counts the
twin of the right answer as an error, which no model can avoid.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.evaluate.figures import EvaluatedPairs
from tijepa.registry import register


@register("evaluation", "duplicates_aware_recall")
def duplicates_aware_recall(pairs: EvaluatedPairs) -> dict[str, Any]:
    """Recall at 1, 5 and 10 both ways, and how many images and texts are duplicates.

    Images are equal where all their numbers are, texts where their words are, whatever their case.
    Image and text belong together where equal ones of both do. Ties count against the model.
    """
    image = _classes(row.numpy().tobytes() for row in pairs.images.cpu().contiguous())
    text = _classes(" ".join(one.split()).casefold() for one in pairs.texts)
    together = torch.zeros(int(image.max()) + 1, int(text.max()) + 1, dtype=torch.bool)
    together[image[pairs.image_of_text], text] = True
    right = together[image][:, text]
    return {
        "image_to_text": _recall(pairs.energy.texts, right),
        "text_to_image": _recall(pairs.energy.images.T, right.T),
        "duplicate_images": len(image) - len(together),
        "duplicate_texts": len(text) - together.shape[1],
    }


def _classes(contents: Iterable[Hashable]) -> Tensor:
    """A number for each content, the same for equal ones."""
    known: dict[Hashable, int] = {}
    return torch.tensor([known.setdefault(one, len(known)) for one in contents])


def _recall(energy: Float[Tensor, "q n"], right: Bool[Tensor, "q n"]) -> dict[str, float]:
    """Over the queries with a right answer: the rank of the best among all that are wrong."""
    asked = right.any(dim=1)
    energy, right = energy[asked].cpu(), right[asked]
    known = energy.masked_fill(energy.isnan(), torch.inf)
    best = known.masked_fill(~right, torch.inf).amin(dim=1, keepdim=True)
    rank = 1 + (~(energy > best) & ~right).sum(dim=1)
    return {f"recall_at_{k}": int((rank <= k).sum()) / len(rank) for k in (1, 5, 10)}
