"""Other image networks of timm, by their name there: an optional package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.errors import ConfigError, MissingExtraError
from tijepa.model.backbones.seen import ImageNet, Seen
from tijepa.model.encoded import Visible

__all__ = ["TimmNet", "timm_model"]


def timm_model(name: str, image_size: int | None = None) -> nn.Module:
    """A network of timm without its classifier, weights random, for a side of pictures.

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
        except TypeError:  # convolutional networks take pictures of any size
            net = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"timm cannot build '{name}' ({reason}): check the name") from None
    return net


class TimmNet(ImageNet):
    """What timm's `forward_features` gives: tokens after a prefix, or a map of features.

    It sees whole pictures only. Raises `ConfigError` where its features are no square grid.
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
                f"'{name}' gives {tokens.shape[1]} patches for pictures of {image_size} pixels, "
                "which is no square: choose another data.image_size"
            )

    def forward(self, images: Float[Tensor, "b 3 s s"], visible: Visible | None = None) -> Seen:
        """See `ImageNet.forward`; `ConfigError` where only a part should be visible."""
        if visible is not None:
            raise ConfigError(
                "a backbone that runs by the package timm cannot hide patches: leave out "
                "image_infill, image_only and fusion_infill, or use a plain ViT"
            )
        tokens, summary = self._tokens(images)
        index = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        mask = torch.ones_like(index, dtype=torch.bool)
        return Seen(tokens, index, mask, summary if self.has_summary else None)

    def _tokens(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        out: Tensor = self.inner.forward_features(images)  # type: ignore[operator]
        if out.ndim == 3:
            return out[:, self._prefix :], out[:, 0]
        channels_last = getattr(self.inner, "output_fmt", "NCHW") == "NHWC"
        out = out.flatten(1, 2) if channels_last else out.flatten(2).transpose(1, 2)
        return out, None
