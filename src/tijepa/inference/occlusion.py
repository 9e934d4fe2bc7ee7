"""An image behind an occlusion mask: what stays visible, and what covers the rest.

The energy map is the energy of what each mask leaves visible. Every other pixel takes the
image's own median colour, so an encoder that was trained on whole images still sees one; it
need not know how to go without patches (docs/log.md compares this with hiding patches, with patch
tokens and with token-level prediction).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tijepa.errors import ConfigError

CELLS = 1.5  # side of what a mask leaves visible, in cells


def occlusion_masks(image_size: int, grid: int, cells: float = CELLS) -> Bool[Tensor, "w s s"]:
    """True on a square of `cells` cells a side centred on each of grid x grid cells, row-major.

    A pixel is inside where its centre is; squares at the border are cut off by it. Raises
    `ConfigError` where a cell is smaller than two pixels a side or there is none.
    """
    if not 1 <= grid <= image_size // 2:
        raise ConfigError(
            f"grid is {grid}: it must lie between 1 and {image_size // 2}, half the model's image"
            " size in pixels"
        )
    cell = image_size / grid
    pixel = torch.arange(image_size) + 0.5
    centre = (torch.arange(grid) + 0.5) * cell
    near = (pixel[None, :] - centre[:, None]).abs() <= cells * cell / 2
    both = near[:, None, :, None] & near[None, :, None, :]
    return both.reshape(grid * grid, image_size, image_size)


def occluded(
    image: Float[Tensor, "3 s s"], visible: Bool[Tensor, "w s s"]
) -> Float[Tensor, "w 3 s s"]:
    """The image behind each mask: what is not visible has its median colour (of each channel)."""
    cover = image.flatten(1).median(dim=1).values[:, None, None]
    return torch.where(visible[:, None], image, cover)
