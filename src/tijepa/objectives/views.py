"""Encode a batch: what the objective compares."""

from __future__ import annotations

import torch

from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.contract import Objective, Pooled, Views

__all__ = ["encode", "pooled_of"]


def encode(model: TextImageModel, objective: Objective, batch: Batch) -> Views:
    """Encode whole images and texts with the context encoders, and the target encoders if used."""
    context, target = model.context, model.target
    image = context.image(batch.images)
    text = context.text(batch.tokens, batch.token_mask)
    if not objective.needs_targets:
        return Views(image, text, None, None)
    assert target is not None
    with torch.no_grad():
        return Views(
            image, text, target.image(batch.images), target.text(batch.tokens, batch.token_mask)
        )


def pooled_of(views: list[Views], batch: Batch) -> Pooled:
    """Pooled tokens of all micro-batches of `batch`, end to end."""
    target_image = [v.target_image.pooled for v in views if v.target_image is not None]
    target_text = [v.target_text.pooled for v in views if v.target_text is not None]
    return Pooled(
        image=torch.cat([v.image.pooled for v in views]),
        text=torch.cat([v.text.pooled for v in views]),
        target_image=torch.cat(target_image) if target_image else None,
        target_text=torch.cat(target_text) if target_text else None,
        has_image=batch.has_image,
        has_text=batch.has_text,
    )
