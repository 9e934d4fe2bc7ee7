"""What every reader and the loader agree on: items of images and captions in, batches out.

Shape letters: b items of a batch, h w pixels, l tokens of the longest caption of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tijepa.data.features import Features, Modality
from tijepa.errors import DataError


class StoredImage(ABC):
    """An image that is not decoded yet."""

    @abstractmethod
    def pixels(self, min_side: int) -> np.ndarray:
        """Pixels uint8 (height, width, 3) RGB.

        The shorter side may be scaled down while decoding, never below `min_side` (unless the
        original is smaller). Raises `DataError` if the image is unreadable.
        """


@dataclass(frozen=True)
class Item:
    """One item as read: all its captions (none where it has no text), its image or None."""

    captions: tuple[str, ...]
    image: StoredImage | None


class PairSource(ABC):
    """The items of one split, each an image (or none) and captions (any number, also none).

    Reading is thread-safe: several loader threads call `read` at once.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def read(self, indexes: Sequence[int]) -> list[Item]:
        """The items at `indexes`, in that order; one access to the storage for all of them."""

    @abstractmethod
    def texts(self, indexes: Sequence[int]) -> list[tuple[str, ...]]:
        """The captions of the items at `indexes`, without touching their images."""

    @abstractmethod
    def item_id(self, index: int) -> str:
        """Stable, human-readable name of item `index`."""

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of item `index`; empty where it has no text."""
        return self.texts([index])[0]

    def image(self, index: int, min_side: int) -> np.ndarray | None:
        """Pixels of item `index` as `Image.pixels` gives them, or None where it has no image."""
        stored = self.read([index])[0].image
        return None if stored is None else stored.pixels(min_side)


@dataclass(frozen=True)
class Rejected:
    """What is listed with its reason and not used: a broken item, or as many as `samples` says.

    0 where no sample is lost by it, as by a member of a shard that nobody needs.
    """

    item: str
    reason: str
    samples: int = 1


def rejected_file(folder: Path) -> Path:
    """The list of rejected items in `folder`; under an older name where only that is there."""
    names = ("rejected.jsonl", "quarantine.jsonl", "set_aside.jsonl")
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


@dataclass(frozen=True)
class PairSplits:
    """The splits of one source and what was skipped when it was made or opened.

    `uri` and `version` say which store they are read from; None where there is no store. `state` is
    that of the source of which the store was made, where it was made into the cache.
    """

    splits: Mapping[str, PairSource]
    rejected: tuple[Rejected, ...]
    description: str
    uri: str | None = None
    version: int | None = None
    state: str | None = None

    def split(self, name: str) -> PairSource:
        """The split called `name`; `DataError` naming the known ones if there is none."""
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise DataError(f"split '{name}' is unknown in {self.description}; known: {known}")
        return self.splits[name]


@dataclass(frozen=True)
class Contents:
    """What the b rows of a batch hold, known to the host: nobody waits for a device to learn it.

    `lengths` are those of the captions in tokens, [CLS] counted in.
    """

    has_image: NDArray[np.bool_]
    has_text: NDArray[np.bool_]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One batch. Rows without an image hold zeros, rows without text hold [CLS] alone.

    images lie in [-1, 1]; tokens are padded with 0 and token_mask is True at real tokens; indices
    are item numbers of the source; cursor is the stream position after the whole (global) batch.
    Where a modality has features of a frozen encoder, they stand in for what would be encoded;
    with `image_features` the images are empty.
    """

    images: Float[Tensor, "b 3 h w"]
    has_image: Bool[Tensor, " b"]
    tokens: Int[Tensor, "b l"]
    token_mask: Bool[Tensor, "b l"]
    has_text: Bool[Tensor, " b"]
    indices: Int[Tensor, " b"]
    cursor: int
    image_features: Features | None = None
    text_features: Features | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    @cached_property
    def contents(self) -> Contents:
        """What the rows hold. It stays with the batch on its way to a device.

        Of a batch that was made on a device it is read from there, once.
        """
        return Contents(
            has_image=self.has_image.cpu().numpy(),
            has_text=self.has_text.cpu().numpy(),
            lengths=self.token_mask.sum(dim=1).cpu().numpy(),
        )

    def inputs(self, modality: Modality) -> tuple[Tensor | Features, ...]:
        """What the encoder of a modality takes, or its features where the batch has them."""
        if modality == "image":
            return (self.images if self.image_features is None else self.image_features,)
        if self.text_features is not None:
            return (self.text_features,)
        return self.tokens, self.token_mask

    def with_images(self, images: Float[Tensor, "b 3 h w"]) -> Batch:
        """The same rows with other images."""
        return self._of_these_rows(replace(self, images=images))

    def _of_these_rows(self, batch: Batch) -> Batch:
        batch.__dict__["contents"] = self.contents
        return batch

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`; asynchronous where the tensors are pinned."""
        moved = self._changed(
            lambda tensor: tensor.to(device, non_blocking=True),
            lambda features: features.to(device),
        )
        return self._of_these_rows(moved)

    def part(self, start: int, stop: int) -> Batch:
        """Rows `start` to `stop` (exclusive) as views, for micro-batches; keeps l and cursor."""
        rows = slice(start, stop)
        return self._changed(lambda tensor: tensor[rows], lambda features: features.rows(rows))

    def _changed(
        self, tensors: Callable[[Tensor], Tensor], features: Callable[[Features], Features]
    ) -> Batch:
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = tensors(value)
            elif isinstance(value, Features):
                values[name] = features(value)
        return Batch(**values)
