"""One batch in the making: items read together, decoded row by row, in any order, by any thread.

What a row becomes depends on (seed, stream position) and the source alone: nothing that another row
found changes it.

With `augment="device"` a whole batch is cropped, resized, mirrored and normalised on the device, as
two matrix products. The host gives every image resized to one square canvas. Cutting out a region
and resizing it is linear in each axis: a matrix of size x canvas from the left for the rows, one
from the right for the columns. Their entries are those of bicubic interpolation with antialiasing
(Keys 1981, a = -1/2, the kernel that Pillow and `torch.nn.functional.interpolate` use).

Shape letters: b items, v side of the canvas, s side of the result.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tijepa.data.batches.order import Order, SampleRng, least_side, replacement, rngs_at
from tijepa.data.features import Features, FeatureTable, SplitFeatures
from tijepa.data.images import Crop, Pixels, prepare, resize_crop
from tijepa.data.pairs import Batch, Item, PairSource, Rejected
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import DataError

_TRIES = 16  # replacements tried for one broken item
_WHOLE = (1.0, 1.0)


@dataclass(frozen=True)
class LoaderSpec:
    """What all batches of a loader have in common."""

    source: PairSource
    tokenizer: Tokenizer
    order: Order
    seed: int
    image_size: int
    max_tokens: int
    crop_scale: tuple[float, float]
    flip: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Literal["host", "device"]
    pin: bool
    features: SplitFeatures


class BrokenItems:
    """Items that were met and could not be used, each listed once."""

    def __init__(self) -> None:
        self.listed: list[Rejected] = []
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def add(self, index: int, name: str, reason: str) -> None:
        """List item `index`, unless it is listed."""
        with self._lock:
            if index not in self._known:
                self._known.add(index)
                self.listed.append(Rejected(name, reason))


class BatchBuilder:
    """Rows of the stream positions [start, start + count), read when made, filled one by one."""

    def __init__(self, spec: LoaderSpec, start: int, count: int, broken: BrokenItems) -> None:
        self._spec = spec
        self._broken = broken
        self._rngs = rngs_at(spec.seed, start, count)
        self._indexes: list[int] = spec.order.at(start, count).tolist()
        self._items = self._read(self._indexes)
        self._captions: list[str | None] = [None] * count
        self._has_image = torch.zeros(count, dtype=torch.bool, pin_memory=spec.pin)
        size = 0 if spec.features.image is not None else spec.image_size
        if spec.augment == "device":
            size = least_side(size, spec.crop_scale[0])
            self._boxes = torch.zeros(count, 4, pin_memory=spec.pin)
            self._mirrored = torch.zeros(count, dtype=torch.bool, pin_memory=spec.pin)
            self._images = _vacant((count, size, size, 3), torch.uint8, spec.pin)
        else:
            self._images = _vacant((count, 3, size, size), torch.float32, spec.pin)
        self._rows = self._images.numpy()

    def __len__(self) -> int:
        return len(self._rngs)

    def fill(self, rows: Sequence[int]) -> None:
        """Decode and crop the images of these rows, or of what replaces them."""
        for row in rows:
            try:
                self._fill(row)
            except DataError:
                raise
            except BaseException as error:
                error.add_note(
                    f"while preparing item {self._name(row)} (number {self._indexes[row]})"
                )
                raise

    def finish(self, cursor: int) -> Batch | Uncropped:
        """The batch of all rows, every one of which must have been filled."""
        spec = self._spec
        tokens = spec.tokenizer.encode([text or "" for text in self._captions], spec.max_tokens)
        on_device = spec.augment == "device"
        batch = Batch(
            images=torch.empty(len(self), 3, 0, 0) if on_device else self._images,
            has_image=self._has_image,
            tokens=self._pinned(tokens.ids),
            token_mask=self._pinned(tokens.mask),
            has_text=self._pinned(torch.tensor([text is not None for text in self._captions])),
            indices=self._pinned(torch.tensor(self._indexes)),
            cursor=cursor,
            image_features=self._image_features(),
            text_features=self._text_features(),
        )
        _ = batch.contents  # counted by this thread, while the training thread goes on
        if not on_device:
            return batch
        return Uncropped(
            batch, self._images, self._boxes, self._mirrored, spec.image_size, spec.mean, spec.std
        )

    def _fill(self, row: int) -> None:
        """Show the item in order, or the first readable one of its replacements."""
        first = ""
        for attempt in range(_TRIES + 1):
            if attempt:
                self._replace(row, attempt)
            try:
                self._show(row, self._items[row], self._rngs[row])
            except DataError as error:
                name = self._name(row)
                self._broken.add(self._indexes[row], name, str(error))
                first = first or f"item {name} is broken ({error})"
            else:
                return
        raise DataError(
            f"{first} and so are {_TRIES} items drawn in its place; {len(self._broken.listed)} of "
            f"{len(self._spec.source)} items are known to be broken: mend the source"
        )

    def _name(self, row: int) -> str:
        return self._spec.source.item_id(self._indexes[row])

    def _replace(self, row: int, attempt: int) -> None:
        source = self._spec.source
        index = replacement(self._spec.seed, self._rngs[row].position, attempt, len(source))
        self._indexes[row] = index
        self._items[row] = self._read([index])[0]

    def _show(self, row: int, item: Item, rng: SampleRng) -> None:
        spec = self._spec
        self._captions[row] = rng.caption_of(item.captions)
        if spec.features.image is not None:
            self._has_image[row] = _has_features(spec.features.image, self._indexes[row])
            return
        self._has_image[row] = item.image is not None
        if item.image is None:
            self._rows[row] = 0
        elif spec.augment == "device":
            self._put_whole(row, item.image.pixels(self._rows.shape[1]), rng)
        else:
            scale, size = spec.crop_scale, spec.image_size
            pixels = item.image.pixels(rng.needed_side(size, scale))
            height, width = pixels.shape[:2]
            crop = rng.crop_of(height, width, scale)
            flip, row_of = spec.flip and rng.mirrored(), self._rows[row]
            prepare(pixels, size, spec.mean, spec.std, crop=crop, flip=flip, out=row_of)

    def _read(self, indexes: Sequence[int]) -> list[Item]:
        return _read(self._spec.source, indexes, images=self._spec.features.image is None)

    def _image_features(self) -> Features | None:
        table = self._spec.features.image
        if table is None:
            return None
        return table.take(self._indexes, [0 if has else None for has in self._has_image.tolist()])

    def _text_features(self) -> Features | None:
        table = self._spec.features.text
        if table is None:
            return None
        counts = [len(item.captions) for item in self._items]
        numbers = [r.caption_number(n) for r, n in zip(self._rngs, counts, strict=True)]
        return table.take(self._indexes, numbers)

    def _put_whole(self, row: int, pixels: Pixels, rng: SampleRng) -> None:
        """The whole image as a square, whatever its shape, and where to crop it."""
        height, width = pixels.shape[:2]
        crop = rng.crop_of(height, width, self._spec.crop_scale)
        shares = [crop.top / height, crop.left / width, crop.height / height, crop.width / width]
        self._boxes[row] = torch.tensor(shares)
        self._mirrored[row] = self._spec.flip and rng.mirrored()
        whole = Crop(top=0, left=0, height=height, width=width)
        self._rows[row] = resize_crop(pixels, whole, self._rows.shape[1])

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self._spec.pin else tensor


def _vacant(shape: tuple[int, ...], dtype: torch.dtype, pin: bool) -> torch.Tensor:
    """Memory for images, its content undefined.

    NumPy asks the system for large pages, torch does not; faulting in small ones cost 0.25 ms for
    each image of 224 pixels (docs/log.md).
    """
    if pin:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    return torch.from_numpy(np.empty(shape, np.uint8 if dtype is torch.uint8 else np.float32))


def _has_features(table: FeatureTable, index: int) -> bool:
    """Whether the item has an image; `DataError` where it was found broken."""
    if index in table.broken:
        raise DataError(table.broken[index])
    return table.count(index) > 0


def _read(source: PairSource, indexes: Sequence[int], *, images: bool) -> list[Item]:
    """The items at `indexes`; without `images` their captions alone."""
    try:
        if images:
            items = source.read(indexes)
        else:
            items = [Item(texts, None) for texts in source.texts(indexes)]
    except BaseException as error:
        shown = ", ".join(str(index) for index in indexes[:5])
        more = f" and {len(indexes) - 5} more" if len(indexes) > 5 else ""
        error.add_note(f"while reading the items number {shown}{more} of the source")
        raise
    assert len(items) == len(indexes), f"asked for {len(indexes)} items, got {len(items)}"
    return items


@dataclass(frozen=True)
class Uncropped:
    """A batch whose images are whole; `batch` is all the rest, its own images are empty."""

    batch: Batch
    pixels: UInt8[Tensor, "b v v 3"]
    boxes: Float[Tensor, "b 4"]
    mirrored: Bool[Tensor, " b"]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device` with its images cropped there."""
        moved = self.batch.to(device)
        images = crop_on_device(
            self.pixels.to(device, non_blocking=True),
            self.boxes.to(device, non_blocking=True),
            self.mirrored.to(device, non_blocking=True),
            self.image_size,
            self.mean,
            self.std,
        )
        return moved.with_images(images.masked_fill(~moved.has_image[:, None, None, None], 0.0))


def crop_on_device(
    pixels: UInt8[Tensor, "b v v 3"],
    boxes: Float[Tensor, "b 4"],
    mirrored: Bool[Tensor, " b"],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Tensor, "b 3 {size} {size}"]:
    """Regions of `pixels`, resized to `size`, mirrored where asked for, normalised.

    `boxes` are top, left, height and width as shares of the canvas.
    """
    canvas = pixels.permute(0, 3, 1, 2).float()
    side = canvas.shape[-1]
    rows = _resampling(boxes[:, 0], boxes[:, 2], side, size)
    columns = _resampling(boxes[:, 1], boxes[:, 3], side, size)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    resized = rows[:, None] @ canvas @ columns[:, None].transpose(2, 3)
    moments = torch.tensor([list(mean), list(std)]).to(pixels.device, non_blocking=True)
    centre, spread = moments[:, :, None, None]
    normalised: Tensor = (resized.clamp(0, 255) / 255 - centre) / spread
    return normalised


def _resampling(
    start: Float[Tensor, " b"], length: Float[Tensor, " b"], side: int, size: int
) -> Float[Tensor, "b {size} {side}"]:
    """Weights of the canvas's pixels along one axis in each pixel of the result; rows sum to 1."""
    step = (length * side / size)[:, None, None]
    outputs = torch.arange(size, device=start.device)[None, :, None] + 0.5
    inputs = torch.arange(side, device=start.device)[None, None, :] + 0.5
    centres = (start * side)[:, None, None] + outputs * step
    weights = _cubic((inputs - centres) / step.clamp(min=1))
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(x: Float[Tensor, "b s v"]) -> Float[Tensor, "b s v"]:
    """Keys' kernel with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
