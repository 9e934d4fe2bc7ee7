"""Vision transformer (Dosovitskiy et al. 2021) that can be shown a part of the patches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.encoded import Encoded, Visible, gather_tokens, pool
from tijepa.model.positions import positions_2d
from tijepa.model.stem import STEMS
from tijepa.model.transformer import Transformer, initialise

__all__ = ["ImageEncoder"]


class ImageEncoder(nn.Module):
    """Patches → tokens. Hidden patches are dropped before the first layer, never masked after it.

    `stem` makes patch tokens of pixels: "conv" or "linear" (`tijepa.model.stem`); it sees zeros in
    the place of hidden patches. `pooling` is "mean" over the visible patch tokens or "class" for a
    learned class token.
    """

    position: Tensor
    frozen = False

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        pooling: str = "mean",
        stem: str = "conv",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert stem in STEMS, stem
        assert pooling in ("mean", "class"), pooling
        assert image_size % patch_size == 0, (image_size, patch_size)
        self.patch_size = patch_size
        self.grid = image_size // patch_size
        self.width = self.pooled_width = width
        self.stem = STEMS[stem](patch_size=patch_size, width=width)
        self.register_buffer(
            "position", positions_2d(self.grid, self.grid, width), persistent=False
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if pooling == "class" else None
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, checkpointing=checkpointing
        )
        initialise(self)
        self.stem.initialise()

    @property
    def patches(self) -> int:
        """Number of patches of a picture."""
        return self.grid**2

    def forward(self, images: Float[Tensor, "b 3 s s"], visible: Visible | None = None) -> Encoded:
        """Encode the `visible` patches, or all of them."""
        b = images.shape[0]
        if visible is None:
            x = self.stem(images) + self.position
            index = torch.arange(self.patches, device=x.device).expand(b, -1)
            mask = None
        else:
            x = self.stem(self._without_hidden(images, visible)) + self.position
            x, index, mask = gather_tokens(x, visible.index), visible.index, visible.mask
        if self.class_token is None:
            tokens = self.transformer(x, mask)
            pooled = pool(tokens, mask)
        else:
            x = torch.cat([self.class_token.expand(b, -1, -1).to(x.dtype), x], dim=1)
            seen = None if mask is None else torch.cat([mask.new_ones(b, 1), mask], dim=1)
            out = self.transformer(x, seen)
            pooled, tokens = out[:, 0], out[:, 1:]
        full = torch.ones_like(index, dtype=torch.bool) if mask is None else mask
        return Encoded(tokens=tokens, position=index, mask=full, pooled=pooled)

    def _without_hidden(
        self, images: Float[Tensor, "b 3 s s"], visible: Visible
    ) -> Float[Tensor, "b 3 s s"]:
        """Zeros in the place of hidden patches: a stem may look beyond the border of a patch."""
        b, c, _, _ = images.shape
        g, p = self.grid, self.patch_size
        seen = images.new_zeros(b, g * g)
        seen = seen.scatter_add(1, visible.index, visible.mask.to(images.dtype)).clamp(max=1.0)
        tiles = images.view(b, c, g, p, g, p) * seen.view(b, 1, g, 1, g, 1)
        return tiles.view(images.shape)
