"""ImageNet's ViT-Tiny/16 at 224 pixels, by timm's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tijepa.model.pretrained.backbones import ImageBackbone
from tijepa.model.pretrained.sources import open_image_source
from tijepa.model.pretrained.weights import load_pretrained

__all__ = ["SIDE", "WIDTH", "load_vit"]

WIDTH, SIDE = 192, 224


def load_vit(folder: Path) -> Callable[[Tensor], Tensor]:
    """A function from images (b, 3, 224, 224) in [-1, 1] to (b, 2 · 192).

    Class token and mean of the patch tokens, each the mean over the photo and its four corners, as
    in the preset photos-frozen.
    """
    source = open_image_source(str(folder))
    backbone = ImageBackbone(net=source.net, image_size=SIDE, pooling="class_mean", views="corners")
    load_pretrained(backbone.net, source.weights(SIDE), source.name)

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        pooled: Tensor = backbone(images).pooled
        return pooled

    return encode
