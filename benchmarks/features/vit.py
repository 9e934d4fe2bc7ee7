"""ImageNet's ViT-Tiny/16 at 224 pixels, by timm's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tijepa.model.backbones.image_backbone import ImageBackbone
from tijepa.model.backbones.image_source import open_image_source
from tijepa.model.backbones.loading import load_pretrained

__all__ = ["SIDE", "WIDTH", "load_vit"]

WIDTH, SIDE = 192, 224


def load_vit(folder: Path) -> Callable[[Tensor], Tensor]:
    """A function from images (b, 3, 224, 224) in [-1, 1] to (b, 6 · 192).

    End to end: class token, mean of the patch tokens, means of the four quarters, row-major. The
    quarters are taken here and in float32, for under autocast `pool=grid` rounds them to bf16.
    """
    source = open_image_source(str(folder))
    backbone = ImageBackbone(net=source.net, image_size=SIDE, pooling="class_mean")
    load_pretrained(backbone.net, source.weights(SIDE), source.name)
    half = backbone.grid // 2

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        seen = backbone(images)
        quarters = seen.tokens.reshape(-1, 2, half, 2, half, WIDTH).mean(dim=(2, 4)).flatten(1)
        return torch.cat([seen.pooled, quarters], dim=1)

    return encode
