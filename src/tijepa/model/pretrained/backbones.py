"""Pretrained image and text networks as encoders like our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.errors import ConfigError
from tijepa.model.encoded import (
    Encoded,
    ImageNet,
    TokenSubset,
    gather_tokens,
    parts_of,
    pool,
    pooled,
)
from tijepa.model.pretrained.trainable import Tuning
from tijepa.model.pretrained.transformers_backend import (
    TransformersImageNet,
    config_of,
    new_network,
    projection,
)
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
    `tijepa.model.encoded.pooled`; `mode`, `layers` and `rank` as in `Tuning`.

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


class TextBackbone(nn.Module):
    """Token ids → tokens by a pretrained network of transformers; always in evaluation mode.

    `net` is its description (`tijepa.model.pretrained.transformers_backend`) with its `width`.
    Hidden tokens are not attended to, so they have no influence on the visible ones, which keep
    their positions. `pooling` is "mean" over the visible tokens, "class" for the first one, or
    "layers" for three vectors end to end, the means of the word embeddings and of the last two
    layers: words that the last layer no longer tells apart are still there.
    "projected" is the vector that a text-image model compares with images; SigLIP's reads padding
    up to the length that it was trained with. `normalise` scales the pooled token to length 1. The
    rest as in `ImageBackbone`.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        max_tokens: int,
        pooling: str = "mean",
        normalise: bool = False,
        mode: str = "frozen",
        layers: int = 2,
        rank: int = 8,
    ) -> None:
        super().__init__()
        assert pooling in ("mean", "class", "layers", "projected"), pooling
        built = config_of(net)
        self.net = new_network(net, built)
        self.width = int(net["width"])
        self.pooled_width = self.width * (3 if pooling == "layers" else 1)
        self._pad_to, self._pad_id = 0, int(built.pad_token_id or 0)
        if pooling == "projected":
            self.pooled_width = int(net["projected"])
            self.net.projection = projection(net, self.width)
            if not net["linear"]:  # SigLIP takes the last token of its full length, CLIP its end
                self._pad_to = int(built.max_position_embeddings)
        Tuning(mode, layers, rank).apply(self.net)
        self.mode = mode
        self.pooling = pooling
        self.normalise = normalise
        self.max_tokens = max_tokens
        self.train()

    @property
    def frozen(self) -> bool:
        """Whether nothing of it is trained."""
        return self.mode == "frozen"

    def train(self, mode: bool = True) -> TextBackbone:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], visible: TokenSubset | None = None
    ) -> Encoded:
        """Encode the `visible` tokens, or all that `mask` marks as real."""
        seen = mask
        if visible is not None:
            seen = torch.zeros_like(mask, dtype=torch.long)
            seen = seen.scatter_add(1, visible.index, visible.mask.long()).bool()
        layers = self.pooling == "layers"
        if self._pad_to:
            out = self.net(input_ids=self._padded(ids, mask))
        else:
            more = {"output_hidden_states": True} if layers else {}  # not every network knows it
            out = self.net(input_ids=ids, attention_mask=seen.long(), **more)
        tokens, earlier = out.last_hidden_state[:, : ids.shape[1]].float(), []
        if layers:
            earlier = [out.hidden_states[k].float() for k in (0, -2)]
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            tokens, index, mask = gather_tokens(tokens, visible.index), visible.index, visible.mask
            earlier = [gather_tokens(one, visible.index) for one in earlier]
        pooled = tokens[:, 0] if self.pooling == "class" else pool(tokens, mask)
        if self.pooling == "projected":
            pooled = self.net.projection(out.pooler_output).float()  # type: ignore[operator]
        if layers:
            pooled = torch.cat([*(pool(one, mask) for one in earlier), pooled], dim=1)
        if self.normalise:
            pooled = F.normalize(pooled, dim=1)
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pooled)

    def _padded(self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        ids = torch.where(mask, ids, self._pad_id)
        return F.pad(ids, (0, self._pad_to - ids.shape[1]), value=self._pad_id)
