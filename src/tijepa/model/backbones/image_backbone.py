"""A pretrained image network as an encoder like our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tijepa.errors import ConfigError
from tijepa.model.backbones.seen import ImageNet, parts_of, pooled
from tijepa.model.backbones.timm_net import TimmNet
from tijepa.model.backbones.transformers_image import TransformersImageNet
from tijepa.model.backbones.tuning import Tuning
from tijepa.model.backbones.vit import PretrainedViT
from tijepa.model.encoded import Encoded, Visible

__all__ = ["CHECKPOINTS", "ImageBackbone"]


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
    `tijepa.model.backbones.seen.pooled`; `mode`, `layers` and `rank` as in `Tuning`.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        image_size: int,
        pooling: str = "mean",
        mode: str = "frozen",
        layers: int = 2,
        rank: int = 8,
    ) -> None:
        super().__init__()
        self.net = NETS[net["kind"]](net, image_size)
        if pooling in ("class", "class_mean") and not self.net.has_summary:
            raise ConfigError(
                f"model.image.pool is '{pooling}', and this backbone has no class token: use mean "
                "or grid"
            )
        Tuning(mode, layers, rank).apply(self.net)
        self.mode = mode
        self.pooling = pooling
        self.grid = self.net.grid
        self.width = self.net.width
        self.pooled_width = self.width * parts_of(pooling, self.net.has_summary)
        self.train()

    @property
    def patches(self) -> int:
        """Number of patches of a picture."""
        return self.grid**2

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is trained."""
        return self.mode == "frozen"

    def train(self, mode: bool = True) -> ImageBackbone:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(self, images: Float[Tensor, "b 3 s s"], visible: Visible | None = None) -> Encoded:
        """Encode the `visible` patches, or all of them."""
        seen = self.net(images, visible)
        return Encoded(
            tokens=seen.tokens.float(),
            position=seen.position,
            mask=seen.mask,
            pooled=pooled(seen, self.pooling, self.grid).float(),
        )
