"""Our own encoders: transformers that can be shown a part of the patches or of the tokens."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.model.encoded import Encoded, TokenSubset, gather_tokens, pool
from tijepa.model.transformer import Transformer, initialise, positions_1d, positions_2d


class ImageEncoder(nn.Module):
    """Patches → tokens. Hidden patches are dropped before the first layer, never masked after it.

    `stem` makes patch tokens of pixels, "conv" or "linear"; it sees zeros in the place of hidden
    patches. `pooling` is "mean" over the visible patch tokens or "class" for a
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
        """Number of patches of an image."""
        return self.grid**2

    def forward(
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset | None = None
    ) -> Encoded:
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
        self, images: Float[Tensor, "b 3 s s"], visible: TokenSubset
    ) -> Float[Tensor, "b 3 s s"]:
        """Zeros in the place of hidden patches: a stem may look beyond the border of a patch."""
        b, c, _, _ = images.shape
        g, p = self.grid, self.patch_size
        seen = images.new_zeros(b, g * g)
        seen = seen.scatter_add(1, visible.index, visible.mask.to(images.dtype)).clamp(max=1.0)
        tiles = images.view(b, c, g, p, g, p) * seen.view(b, 1, g, 1, g, 1)
        return tiles.view(images.shape)


# From pixels to patch tokens, before the transformer.


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


class TextEncoder(nn.Module):
    """Token ids → tokens. Hidden tokens are dropped before the first layer.

    `pooling` is "mean" over the visible tokens or "class" for the first token, which the
    tokenizer puts before every caption and which is never hidden.
    """

    position: Tensor
    frozen = False

    def __init__(
        self,
        *,
        vocab_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        pooling: str = "mean",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert pooling in ("mean", "class"), pooling
        self.max_tokens = max_tokens
        self.width = self.pooled_width = width
        self.pooling = pooling
        self.embed = nn.Embedding(vocab_size, width)
        self.register_buffer("position", positions_1d(max_tokens, width), persistent=False)
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, checkpointing=checkpointing
        )
        initialise(self)
        # words as strong as positions, whose entries have mean square 1/2
        nn.init.normal_(self.embed.weight, std=0.5**0.5)

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"], visible: TokenSubset | None = None
    ) -> Encoded:
        """Encode the `visible` tokens, or all that `mask` marks as real."""
        x = self.embed(ids) + self.position[: ids.shape[1]]
        index = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        if visible is not None:
            x, index, mask = gather_tokens(x, visible.index), visible.index, visible.mask
        tokens = self.transformer(x, mask)
        pooled = tokens[:, 0] if self.pooling == "class" else pool(tokens, mask)
        return Encoded(tokens=tokens, position=index, mask=mask, pooled=pooled)
