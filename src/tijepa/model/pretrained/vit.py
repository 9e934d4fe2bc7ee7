"""The plain vision transformer with timm's weights (Dosovitskiy et al. 2021; timm's names)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.io.formatting import first_line
from tijepa.model.encoded import Encoded, ImageNet, TokenSubset, gather_tokens, patches_of
from tijepa.model.transformer import Transformer

_HEAD_WIDTH = 64  # of every plain ViT in timm
_EPSILON = 1e-6
# timm's names of what lies in a block → ours
_INNER = {
    "norm1": "norm_attention",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "norm2": "norm_mlp",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_OUTER = {"norm": "transformer.norm", "patch_embed.proj": "patch_embed"}
_UNUSED = ("head.", "head_dist.", "pre_logits.")  # classifiers


class PretrainedViT(ImageNet):
    """Patches by one linear map, learned positions, pre-norm blocks, perhaps a class token."""

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        class_token: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.grid, self.has_summary = width, image_size // patch_size, class_token
        self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + class_token, width))
        self.transformer = Transformer(
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            checkpointing=checkpointing,
            epsilon=_EPSILON,
        )

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
        """See `ImageNet.forward`."""
        b, first = images.shape[0], int(self.has_summary)  # `len` would fix the batch of a graph
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed[:, first:]
        seen = None
        if visible is not None:
            x, seen = gather_tokens(x, visible.index), visible.mask
        if self.cls_token is not None:
            start = (self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1)
            x = torch.cat([start.to(x.dtype), x], dim=1)
            seen = None if seen is None else torch.cat([seen.new_ones(b, 1), seen], dim=1)
        out = self.transformer(x, seen)
        return patches_of(out[:, first:], visible, out[:, 0] if first else None)


def architecture_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Arguments of `PretrainedViT` for weights of these names and shapes; None for other networks.

    The number of heads leaves no trace in the shapes: plain ViTs have heads of 64.
    """
    names = {name for name in shapes if not name.startswith(_UNUSED)}
    if "patch_embed.proj.weight" not in names or "pos_embed" not in names:
        return None
    if any(_ours(name) is None for name in names) or "patch_embed.proj.bias" not in names:
        return None
    width, channels, patch, across = shapes["patch_embed.proj.weight"]
    class_token = "cls_token" in names
    patches = shapes["pos_embed"][1] - class_token
    grid = round(patches**0.5)
    if channels != 3 or patch != across or grid**2 != patches or width % _HEAD_WIDTH:
        return None
    depth = 1 + max(int(name.split(".")[1]) for name in names if name.startswith("blocks."))
    return {
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "heads": width // _HEAD_WIDTH,
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / width,
        "class_token": class_token,
    }


def from_timm(weights: Mapping[str, Tensor], grid: int) -> dict[str, Tensor]:
    """State of a `PretrainedViT` of `grid` x `grid` patches from weights of timm's names.

    Positions of another grid are resized (bicubic, antialiased), as timm does it.
    """
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not name.startswith(_UNUSED):
            ours = _ours(name)
            assert ours is not None, name
            state[ours] = value
    first = int("cls_token" in state)
    own, patches = state["pos_embed"][:, :first], state["pos_embed"][:, first:]
    side = round(patches.shape[1] ** 0.5)
    if side != grid:
        square = patches.transpose(1, 2).reshape(1, -1, side, side)
        square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
        state["pos_embed"] = torch.cat([own, square.flatten(2).transpose(1, 2)], dim=1)
    return state


def _ours(name: str) -> str | None:
    """Our name of a parameter, None for one that this network lacks."""
    if name in ("cls_token", "pos_embed"):
        return name
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if block is None or block[2] not in _INNER:
        return None
    return f"transformer.blocks.{block[1]}.{_INNER[block[2]]}.{kind}"


# Other image networks of timm, by their name there: an optional package.


def timm_model(name: str, image_size: int | None = None) -> nn.Module:
    """A network of timm without its classifier, weights random, for a side of images.

    Raises `ConfigError` for a name that timm does not know, `MissingExtraError` without timm.
    """
    try:
        import timm
    except ImportError:
        raise MissingExtraError("timm", "timm") from None
    sized = {} if image_size is None else {"img_size": image_size}
    try:
        try:
            net: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sized)
        except TypeError:  # convolutional networks take images of any size
            net = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise ConfigError(f"timm cannot build '{name}' ({reason}): check the name") from None
    return net


class TimmNet(ImageNet):
    """What timm's `forward_features` gives: tokens after a prefix, or a map of features.

    It sees whole images only. Raises `ConfigError` where its features are no square grid.
    """

    def __init__(self, description: Mapping[str, Any], image_size: int) -> None:
        super().__init__()
        name = description["config"]["architecture"]
        self.inner = timm_model(name, image_size)
        self.inner.eval()
        self._prefix = int(getattr(self.inner, "num_prefix_tokens", 0))
        self.has_summary = bool(getattr(self.inner, "has_class_token", False))
        with torch.no_grad():
            tokens, _ = self._tokens(torch.zeros(1, 3, image_size, image_size))
        self.width = tokens.shape[2]
        self.grid = round(tokens.shape[1] ** 0.5)
        if self.grid**2 != tokens.shape[1]:
            raise ConfigError(
                f"'{name}' gives {tokens.shape[1]} patches for images of {image_size} pixels, "
                "which is no square: choose another data.image_size"
            )

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
        """See `ImageNet.forward`; `ConfigError` where only a part should be visible."""
        if visible is not None:
            raise ConfigError(
                "a backbone that runs by the package timm cannot hide patches: leave out "
                "image_infill, image_only and fusion_infill, or use a plain ViT"
            )
        tokens, summary = self._tokens(images)
        return patches_of(tokens, None, summary if self.has_summary else None)

    def _tokens(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        out: Tensor = self.inner.forward_features(images)  # type: ignore[operator]
        if out.ndim == 3:
            return out[:, self._prefix :], out[:, 0]
        channels_last = getattr(self.inner, "output_fmt", "NCHW") == "NHWC"
        out = out.flatten(1, 2) if channels_last else out.flatten(2).transpose(1, 2)
        return out, None
