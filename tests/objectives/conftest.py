"""A tiny model, random batches, and the encodings of one in the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Encodings, Pooled

GRID, PATCH, TOKENS, VOCAB, WIDTH, DIM, FUSED = 3, 4, 8, 30, 8, 6, 12


def _model(*, norm: str = "batch", ema: bool = True, predictors: bool = True) -> TextImageModel:
    torch.manual_seed(0)
    size: dict[str, Any] = {"width": WIDTH, "depth": 1, "heads": 2}
    mlp: dict[str, Any] = {"hidden": 10, "depth": 1, "norm": norm}
    tokens = {"image_width": WIDTH, "text_width": WIDTH, "grid": GRID, "max_tokens": TOKENS, **size}
    fused = {"image_width": FUSED, "grid": GRID, **size}
    model = TextImageModel(
        encoders={
            "image": {"image_size": GRID * PATCH, "patch_size": PATCH, **size},
            "text": {"vocab_size": VOCAB, "max_tokens": TOKENS, **size},
            "head": mlp,
            "embed_dim": DIM,
            "fusion": {**size, "width": FUSED},
        },
        predictors={"embed_dim": DIM, "pooled": mlp, "tokens": tokens, "fused": fused}
        if predictors
        else None,
        ema=ema,
    )
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:  # strong weights: a leak must not hide in rounding
            nn.init.normal_(parameter, std=0.3, generator=_seeded(len(name)))
    return model.train()


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(
    has_image: Sequence[bool] = (True,) * 6, has_text: Sequence[bool] = (True,) * 6, seed: int = 0
) -> Batch:
    """Captions of 3 to 8 tokens, [CLS] = 1 alone where there is no text, black where no image."""
    b = len(has_image)
    image, text = torch.tensor(has_image), torch.tensor(has_text)
    side = GRID * PATCH
    images = torch.rand(b, 3, side, side, generator=_seeded(seed)) * 2 - 1
    lengths = torch.where(text, torch.randint(3, TOKENS + 1, (b,), generator=_seeded(seed)), 1)
    mask = torch.arange(TOKENS).expand(b, -1) < lengths[:, None]
    tokens = torch.randint(2, VOCAB, (b, TOKENS), generator=_seeded(seed))
    tokens[:, 0] = 1
    return Batch(
        images=images * image[:, None, None, None],
        has_image=image,
        tokens=tokens * mask,
        token_mask=mask,
        has_text=text,
        indices=torch.arange(b),
        cursor=b,
    )


def _encodings(model: TextImageModel, batch: Batch) -> Encodings:
    image, text = model.context.image(batch.images), model.context.text(*_text(batch))
    if model.target is None:
        return Encodings(image, text, None, None)
    with torch.no_grad():
        target_image = model.target.image(batch.images)
        target_text = model.target.text(*_text(batch))
    return Encodings(image, text, target_image, target_text)


def _text(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.tokens, batch.token_mask


def _pooled(encodings: Encodings, batch: Batch) -> Pooled:
    return Pooled(
        image=encodings.image.pooled,
        text=encodings.text.pooled,
        target_image=None if encodings.target_image is None else encodings.target_image.pooled,
        target_text=None if encodings.target_text is None else encodings.target_text.pooled,
        has_image=batch.contents.has_image,
        has_text=batch.contents.has_text,
    )


@pytest.fixture
def make_model() -> Callable[..., TextImageModel]:
    return _model


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    return _batch


@pytest.fixture
def make_encodings() -> Callable[[TextImageModel, Batch], Encodings]:
    return _encodings


@pytest.fixture
def make_pooled() -> Callable[[Encodings, Batch], Pooled]:
    return _pooled
