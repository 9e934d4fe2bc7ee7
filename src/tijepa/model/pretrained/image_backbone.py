"""A pretrained image network as an encoder like our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.errors import ConfigError
from tijepa.model.encoded import Encoded, TokenSubset
from tijepa.model.pretrained.backbone_output import ImageNet, parts_of, pooled
from tijepa.model.pretrained.trainable import Tuning
from tijepa.model.pretrained.transformers_backend import TransformersImageNet
from tijepa.model.pretrained.vit import PretrainedViT, TimmNet

VIEWS = ("whole", "corners")
_CORNER = 7 / 8  # side of a corner crop, as a share of the image's


def _vit(net: Mapping[str, Any], image_size: int) -> ImageNet:
    return PretrainedViT(**{**net["config"], "image_size": image_size})


NETS: dict[str, Callable[[Mapping[str, Any], int], ImageNet]] = {
    "vit": _vit,
    "transformers": TransformersImageNet,
    "timm": TimmNet,
}
CHECKPOINTS = ("vit",)  # those whose "config" takes `checkpointing`


class ImageBackbone(nn.Module):
    """Pixels → tokens by a pretrained network; it always runs in evaluation mode.

    Dropout would be random state that a resumed run cannot repeat, so there is none, whatever is
    trained. `net` says which network ("kind") and its architecture ("config"); its weights are
    random until `load_pretrained` or a checkpoint gives them. `pooling` as in
    `tijepa.model.pretrained.backbone_output.pooled`; `mode`, `layers` and `rank` as in `Tuning`.

    With `views="corners"` the network sees five crops of every image, the whole and its four
    corners (`five_crops`), and the pooled token is the mean over them, as image classifiers do it
    at test time (Krizhevsky, Sutskever and Hinton 2012). Tokens are those of
    the whole image, which is all that can be seen where patches are hidden.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        image_size: int,
        pooling: str = "mean",
        views: str = "whole",
        mode: str = "frozen",
        layers: int = 2,
        rank: int = 8,
    ) -> None:
        super().__init__()
        self.net = NETS[net["kind"]](net, image_size)
        if pooling == "projected" and not self.net.projected_width:
            raise ConfigError(
                "model.image.pool is 'projected', and this backbone is no text-image model: use"
                " another pool"
            )
        if pooling in ("class", "class_mean") and not self.net.has_summary:
            raise ConfigError(
                f"model.image.pool is '{pooling}', and this backbone has no class token: use mean "
                "or grid"
            )
        assert views in VIEWS, views
        Tuning(mode, layers, rank).apply(self.net)
        self.mode = mode
        self.pooling = pooling
        self.views = views
        self.grid = self.net.grid
        self.width = self.net.width
        self.pooled_width = self.width * parts_of(pooling, self.net.has_summary)
        if pooling == "projected":
            self.pooled_width = self.net.projected_width
        self.train()

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.grid**2

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is trained."""
        return self.mode == "frozen"

    def train(self, mode: bool = True) -> ImageBackbone:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
        """Encode the `visible` patches, or all of them."""
        seen = self.net(images, visible)
        means = [pooled(seen, self.pooling, self.grid).float()]
        if self.views == "corners" and visible is None:
            for crop in five_crops(images)[1:]:
                means.append(pooled(self.net(crop), self.pooling, self.grid).float())
        return Encoded(
            tokens=seen.tokens.float(),
            position=seen.position,
            mask=seen.mask,
            pooled=torch.stack(means).mean(dim=0),
        )


def five_crops(images: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b 3 s s"]]:
    """The whole and the four corners, 7/8 of a side enlarged to it; the right ones are mirrored."""
    side = images.shape[-1]
    part = round(side * _CORNER)
    crops = [images]
    for top in (slice(0, part), slice(side - part, side)):
        for right in (False, True):
            left = slice(side - part, side) if right else slice(0, part)
            crop = images[..., top, left]
            crop = F.interpolate(crop, size=(side, side), mode="bilinear", align_corners=False)
            crops.append(crop.flip(-1) if right else crop)
    return crops
