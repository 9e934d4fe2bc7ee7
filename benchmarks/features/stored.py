"""Models whose encoders look features up; heads, predictors, objective, energy are the package's.

Objectives without token-level tasks read pooled tokens alone, so a stored vector can stand for what
a frozen encoder would return. A photo's "image" is its features, folded to three square channels
and filled up with zeros; a caption's only word is its number.
"""

from __future__ import annotations

import json
import math
from functools import cache, partial
from pathlib import Path

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from tokenizers import models
from torch import Tensor, nn

from features.flickr import CAPTIONS
from grid.held import Held, load_array
from tijepa.data.tokenizer import CLS_ID, Tokenizer
from tijepa.evaluate.measure import CALIBRATION_FEATURES, EvaluationSet
from tijepa.model.encoded import Encoded
from tijepa.model.text_image_model import TextImageModel

_FIRST = CLS_ID + 1  # the id of number 0

__all__ = ["StoredImages", "StoredTexts", "folded", "numbers", "open_features", "put_stored"]


def numbers(count: int) -> Tokenizer:
    """A vocabulary of the numbers below `count`; number n has the id 3 + n."""
    words = ["[PAD]", "[UNK]", "[CLS]", *map(str, range(count))]
    vocabulary = {word: place for place, word in enumerate(words)}
    return Tokenizer(tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")))


class StoredImages(nn.Module):
    """The features that a folded image holds."""

    grid = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = self.pooled_width = width

    def forward(self, images: Tensor) -> Encoded:
        return _encoded(images.flatten(1)[:, : self.width])


class StoredTexts(nn.Module):
    """The features of caption number n, from a table (captions, width)."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.width = self.pooled_width = table.shape[1]
        self.register_buffer("table", table, persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Encoded:
        return _encoded(self.table[ids[:, 1] - _FIRST])


def _encoded(features: Tensor) -> Encoded:
    # the step carries the gradient of the pooled tokens on into the encoder: here it ends
    pooled = features.detach().requires_grad_(torch.is_grad_enabled())
    place = torch.zeros(len(features), 1, dtype=torch.long)
    return Encoded(
        pooled.detach()[:, None], place, torch.ones_like(place, dtype=torch.bool), pooled
    )


def put_stored(model: TextImageModel, *, width: int, table: Tensor) -> None:
    """Replace the encoders, and those of the targets, by ones that look up."""
    for part in (model.context, model.target):
        if part is not None:
            part.image = StoredImages(width)  # type: ignore[assignment]
            part.text = StoredTexts(table)  # type: ignore[assignment]


@cache
def open_features(folder: Path, image_columns: int, text_columns: int) -> Held:
    """What `flickr` kept; the first columns of each, over training of mean 0 and variance 1."""
    splits = np.array(json.loads((folder / "photos.json").read_text()))
    images = _standard(load_array(folder / "images.npy")[:, :image_columns], splits == "train")
    caption_splits = np.repeat(splits, CAPTIONS)
    texts = _standard(load_array(folder / "texts.npy")[:, :text_columns], caption_splits == "train")
    photos = folded(images)
    train = np.flatnonzero(splits == "train").astype(np.int32)
    ids = _FIRST + np.arange(len(texts), dtype=np.int32).reshape(-1, CAPTIONS)
    tokens = np.stack([np.full_like(ids, CLS_ID), ids], axis=2)
    return Held(
        images=photos,
        tokens=tokens,
        lengths=np.full(ids.shape, 2, dtype=np.uint8),
        items=np.stack([train, train], axis=1),
        words=numbers(len(texts)),
        calibration=_pairs(photos, train[:CALIBRATION_FEATURES], captions=CAPTIONS),
        held_out={
            split: _pairs(photos, np.flatnonzero(splits == split), captions=CAPTIONS)
            for split in ("validation", "test")
        },
        encoders=partial(put_stored, width=images.shape[1], table=torch.from_numpy(texts)),
    )


def folded(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, width) as (n, 3, s, s) of the smallest s that holds them."""
    count, width = features.shape
    side = math.ceil(math.sqrt(width / 3))
    filled = np.zeros((count, 3 * side * side), dtype=np.float32)
    filled[:, :width] = features
    return filled.reshape(count, 3, side, side)


def _standard(features: NDArray[np.float32], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A column that never changes becomes zeros."""
    mean, std = features[train].mean(axis=0), features[train].std(axis=0)
    standard: NDArray[np.float32] = (features - mean) / np.where(std > 0, std, 1)
    return standard


def _pairs(images: NDArray[np.float32], rows: NDArray[np.integer], captions: int) -> EvaluationSet:
    texts = [str(CAPTIONS * row + k) for row in rows.tolist() for k in range(captions)]
    owner = torch.arange(len(rows)).repeat_interleave(captions)
    return EvaluationSet(torch.from_numpy(images[rows]), texts, owner, rows.tolist())
