"""Batches of a split, endless, shuffled, the same however they are produced.

What stands at stream position p (item, caption, crop, mirroring) is a function of (seed, p) alone,
so neither the number of threads nor of processes nor a resume changes a batch.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.images import centre_crop, normalise, random_crop, resize_crop
from tijepa.data.order import Order
from tijepa.data.pairs import Batch, PairSource, SetAside
from tijepa.data.randomness import hash_words, uniforms
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError, DataError

__all__ = ["Loader", "load_images"]

_ASPECT = 4 / 3  # crops are between 3:4 and 4:3, as in Inception (arXiv:1409.4842)
_TRIES = 16  # replacements tried for one broken item
# what a random number is for; keeps the numbers of one position apart
_CAPTION, _AREA, _STRETCH, _X, _Y, _FLIP, _REPLACE = range(1, 8)


@dataclass(frozen=True)
class _Draw:
    """The random numbers of one stream position, each in [0, 1)."""

    position: int
    caption: float
    area: float
    stretch: float
    x: float
    y: float
    flip: float


@dataclass(frozen=True)
class _Item:
    """What one stream position became."""

    index: int
    pixels: np.ndarray | None
    caption: str | None


class Loader:
    """Endless iterator maker over the shuffled pairs of `source`.

    The global batch at cursor c is stream positions [c, c + batch_size); rank r of `world` holds
    its r-th contiguous part. `Loader(..., cursor=batch.cursor)` continues after `batch` with
    exactly the batches that would have followed, whatever `threads` and `world`.

    Each time an item comes up, one of its captions is drawn. With `crop_scale` (1, 1) an image
    shows its largest centred square; otherwise a random crop whose area is that share of the
    largest square, of aspect between 3:4 and 4:3. `threads` workers build whole batches ahead, at
    most threads + 1 of them; 0 builds them in the calling thread.

    An item whose image or text raises `DataError` is listed once in `set_aside` and replaced by a
    rule that depends on (seed, position) alone. Iterating raises `DataError` if 16 replacements
    for one position are broken too. Close the loader, use it as a context manager or drop its
    iterators: no thread remains.
    """

    def __init__(
        self,
        source: PairSource,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        image_size: int,
        max_tokens: int,
        seed: int,
        crop_scale: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        threads: int = 1,
        rank: int = 0,
        world: int = 1,
        cursor: int = 0,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"batch_size is {batch_size}: it must be a positive multiple of the number of "
                f"processes, {world}"
            )
        if not 0 <= rank < world:
            raise ConfigError(f"rank is {rank}: it must lie in [0, {world})")
        if cursor < 0 or threads < 0 or seed < 0:
            raise ConfigError(
                f"cursor {cursor}, threads {threads} and seed {seed} must not be negative"
            )
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ConfigError(
                f"crop_scale is {crop_scale}: it must satisfy 0 < first <= second <= 1"
            )
        self.set_aside: list[SetAside] = []
        self._source = source
        self._tokenizer = tokenizer
        self._order = Order(len(source), seed)
        self._batch_size = batch_size
        self._image_size = image_size
        self._max_tokens = max_tokens
        self._seed = seed
        self._crop_scale = crop_scale
        self._flip = flip
        self._threads = threads
        self._local = batch_size // world
        self._first = rank * self._local
        self._cursor = cursor
        self._broken: dict[int, str] = {}
        self._lock = threading.Lock()
        self._iterators: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()

    def __iter__(self) -> Iterator[Batch]:
        """Batches from `cursor` on, anew at each call."""
        iterator = self._ahead() if self._threads else self._one_by_one()
        self._iterators.add(iterator)
        return iterator

    def close(self) -> None:
        """End all iterators of this loader and wait for their threads."""
        for iterator in list(self._iterators):
            iterator.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _one_by_one(self) -> Generator[Batch, None, None]:
        cursor = self._cursor
        while True:
            batch = self._build(cursor)
            yield batch
            cursor = batch.cursor

    def _ahead(self) -> Generator[Batch, None, None]:
        cursor = self._cursor
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="tijepa-loader")
        waiting: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(waiting) <= self._threads:
                    waiting.append(pool.submit(self._build, cursor))
                    cursor += self._batch_size
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _build(self, cursor: int) -> Batch:
        draws = self._draws(cursor + self._first)
        indexes = self._order.at(cursor + self._first, self._local)
        items = [self._item(int(i), draw) for i, draw in zip(indexes, draws, strict=True)]
        size = self._image_size
        pixels = np.zeros((self._local, size, size, 3), dtype=np.uint8)
        for row, item in zip(pixels, items, strict=True):
            if item.pixels is not None:
                row[...] = item.pixels
        images = normalise(pixels)
        has_image = torch.tensor([item.pixels is not None for item in items])
        images[~has_image] = 0.0
        tokens = self._tokenizer.encode([item.caption or "" for item in items], self._max_tokens)
        return Batch(
            images=images,
            has_image=has_image,
            tokens=tokens.ids,
            token_mask=tokens.mask,
            has_text=torch.tensor([item.caption is not None for item in items]),
            indices=torch.tensor([item.index for item in items]),
            cursor=cursor + self._batch_size,
        )

    def _draws(self, start: int) -> list[_Draw]:
        positions = np.arange(start, start + self._local, dtype=np.uint64)
        purposes = (_CAPTION, _AREA, _STRETCH, _X, _Y, _FLIP)
        columns = [uniforms(self._seed, purpose, positions).tolist() for purpose in purposes]
        return [_Draw(start + i, *row) for i, row in enumerate(zip(*columns, strict=True))]

    def _item(self, index: int, draw: _Draw) -> _Item:
        """The item at `index`, or the first readable one of its replacements."""
        first = index
        for attempt in range(_TRIES + 1):
            if attempt:
                index = int(
                    hash_words(self._seed, _REPLACE, draw.position, attempt)[0]
                    % np.uint64(len(self._source))
                )
            if index in self._broken:
                continue
            try:
                return self._read(index, draw)
            except DataError as error:
                self._put_aside(index, str(error))
            except Exception as error:
                error.add_note(f"while reading item {self._source.item_id(index)}")
                raise
        raise DataError(
            f"item {self._source.item_id(first)} is broken ({self._broken[first]}) and so are "
            f"{_TRIES} items drawn in its place; {len(self._broken)} of {len(self._source)} items "
            "are known to be broken: mend the source"
        )

    def _read(self, index: int, draw: _Draw) -> _Item:
        captions = self._source.captions(index)
        caption = captions[int(draw.caption * len(captions))] if captions else None
        size = self._image_size
        low, high = self._crop_scale
        flip = self._flip and draw.flip < 0.5
        if low == 1.0:
            pixels = self._source.image(index, size)
            if pixels is not None:
                pixels = resize_crop(pixels, centre_crop(*pixels.shape[:2]), size, flip)
            return _Item(index, pixels, caption)
        area = low + draw.area * (high - low)
        pixels = self._source.image(index, math.ceil(size / math.sqrt(area / _ASPECT)))
        if pixels is not None:
            crop = random_crop(
                *pixels.shape[:2],
                area=area,
                aspect=_ASPECT ** (2 * draw.stretch - 1),
                x=draw.x,
                y=draw.y,
            )
            pixels = resize_crop(pixels, crop, size, flip)
        return _Item(index, pixels, caption)

    def _put_aside(self, index: int, reason: str) -> None:
        with self._lock:
            if index not in self._broken:
                self._broken[index] = reason
                self.set_aside.append(SetAside(self._source.item_id(index), reason))


def load_images(
    source: PairSource, indexes: Sequence[int], image_size: int
) -> Float[Tensor, "b 3 {image_size} {image_size}"]:
    """The largest centred square of each image, resized, in [-1, 1].

    Raises `DataError` naming the item that has no image or whose image is unreadable.
    """
    pixels = np.empty((len(indexes), image_size, image_size, 3), dtype=np.uint8)
    for row, index in zip(pixels, indexes, strict=True):
        try:
            image = source.image(index, image_size)
        except DataError as error:
            raise DataError(f"item {source.item_id(index)}: {error}; mend or remove it") from None
        if image is None:
            raise DataError(
                f"item {source.item_id(index)} has no image: choose items that have one"
            )
        row[...] = resize_crop(image, centre_crop(*image.shape[:2]), image_size)
    return normalise(pixels)
