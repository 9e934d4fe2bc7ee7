"""From pixels to patch tokens, before the transformer."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["STEMS", "ConvStem", "LinearStem"]


class LinearStem(nn.Module):
    """One linear map of each patch's pixels (Dosovitskiy et al. 2021)."""

    def __init__(self, *, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed = nn.Linear(3 * patch_size**2, width)

    def initialise(self) -> None:
        """Weights that keep the variance of the pixels."""
        nn.init.xavier_uniform_(self.embed.weight)

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b p d"]:
        """Tokens of all patches, row-major."""
        b, c, s, _ = images.shape
        p = self.patch_size
        g = s // p
        patches = images.view(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5)
        tokens: Tensor = self.embed(patches.reshape(b, g * g, c * p * p))
        return tokens


class ConvStem(nn.Module):
    """Convolutions of 3 x 3 and stride 2 down to one cell a patch, then a linear map.

    After Xiao et al. (Early convolutions help transformers see better, arXiv 2106.14881), without
    their BatchNorm, since encoders treat items one by one. `patch_size` is a power of two, 2^n.

    All but the last convolution reach one cell to the right and below, the last one to the left and
    above: a token sees the pixels from -2^(n-1) to 2^n + 2^(n-1) - 2 of its patch, which is centred
    on the patch up to half a pixel. (Padding every convolution on the left would centre the token
    on the corner of its patch.)
    """

    def __init__(self, *, patch_size: int, width: int) -> None:
        super().__init__()
        assert patch_size.bit_count() == 1, patch_size
        steps = patch_size.bit_length() - 1
        widths = [3, *(max(16, width >> (steps - 1 - step)) for step in range(steps))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.embed = nn.Linear(widths[-1], width)

    def initialise(self) -> None:
        """Weights that keep the variance of the pixels (He et al., arXiv 1502.01852)."""
        for layer in self.convolutions:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.embed.weight)

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b p d"]:
        """Tokens of all patches, row-major."""
        x = images.to(memory_format=torch.channels_last)
        for number, layer in enumerate(self.convolutions, start=1):
            last = number == len(self.convolutions)
            x = F.gelu(layer(F.pad(x, (1, 0, 1, 0) if last else (0, 1, 0, 1))))
        tokens: Tensor = self.embed(x.flatten(2).transpose(1, 2))
        return tokens


STEMS: dict[str, type[LinearStem | ConvStem]] = {"conv": ConvStem, "linear": LinearStem}
