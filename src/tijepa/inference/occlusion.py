"""An image seen through a small opening: what stays visible, and what covers the rest.

The energy map is the energy of what each opening shows. Outside the opening every pixel takes the
image's own median colour, so an encoder that was trained on whole images still sees one; it
need not know how to go without patches (docs/log.md compares this with hiding patches, with patch
tokens and with token-level prediction).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["occlusion_masks", "through"]

CELLS = 1.5  # side of an opening, in cells


def occlusion_masks(image_size: int, grid: int, cells: float = CELLS) -> Bool[Tensor, "w s s"]:
    """Square openings of `cells` cells a side, one centred on each of grid x grid cells, row-major.

    A pixel is inside where its centre is; openings at the border are cut off by it.
    """
    assert grid >= 1, grid
    cell = image_size / grid
    pixel = torch.arange(image_size) + 0.5
    centre = (torch.arange(grid) + 0.5) * cell
    near = (pixel[None, :] - centre[:, None]).abs() <= cells * cell / 2
    both = near[:, None, :, None] & near[None, :, None, :]
    return both.reshape(grid * grid, image_size, image_size)


def through(
    image: Float[Tensor, "3 s s"], opening: Bool[Tensor, "w s s"]
) -> Float[Tensor, "w 3 s s"]:
    """The image through each opening, the rest in its median colour (of each channel)."""
    cover = image.flatten(1).median(dim=1).values[:, None, None]
    return torch.where(opening[:, None], image, cover)
