"""Crop, resize, mirror and normalise a whole batch on the device, as two matrix products.

The host gives every image resized to one square canvas. Cutting out a region and resizing it is
linear in each axis: a matrix of size x canvas from the left for the rows, one from the right for
the columns. Their entries are those of bicubic interpolation with antialiasing (Keys 1981, a =
-1/2, the kernel that Pillow and `torch.nn.functional.interpolate` use).

Shape letters: b items, v side of the canvas, s side of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tijepa.data.pairs import Batch


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
