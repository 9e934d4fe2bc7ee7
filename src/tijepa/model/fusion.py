"""Text-to-image cross-attention: image tokens that have read the text (X of arXiv 2503.06380).

Shape letters: b items, n image tokens, l text tokens, d width of the fusion, i and t widths of the
image and the text encoder. `...` is (b, n) or, where padding would cost time, packed to one axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tijepa.model.encoded import Encoded, pool
from tijepa.model.transformer import Attention, Packing, attend, feed_forward, initialise


class CrossAttention(nn.Module):
    """Queries from image tokens; keys and values from text tokens at the text encoder's width.

    Text tokens whose mask is False are not attended to; each text needs at least one that is True.
    """

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(text_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "... d"],
        packing: Packing | None,
        text: Float[Tensor, "b l t"],
        text_mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "... d"]:
        """What every image token reads in the text of its item."""
        q = self.query(x) if packing is None else packing.unpack(self.query(x))
        b, n, d = q.shape
        q = q.view(b, n, self.heads, d // self.heads).transpose(1, 2)
        pair = self.key_value(text).view(b, text.shape[1], 2, self.heads, d // self.heads)
        k, v = pair.permute(2, 0, 3, 1, 4)
        tokens = attend(q, k, v, text_mask).transpose(1, 2).reshape(b, n, d)
        out: Tensor = self.out(tokens if packing is None else packing.pack(tokens))
        return out


class FusionBlock(nn.Module):
    """x + self-attention(norm x), then x + cross-attention(norm x, text), then x + MLP(norm x)."""

    def __init__(self, width: int, text_width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, text_width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = feed_forward(width, mlp_ratio)

    def forward(
        self,
        x: Float[Tensor, "... d"],
        mask: Bool[Tensor, "b n"] | None,
        packing: Packing | None,
        text: Float[Tensor, "b l t"],
        text_mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "... d"]:
        """One layer."""
        x = x + self.attention(self.norm_attention(x), mask, packing)
        x = x + self.cross(self.norm_cross(x), packing, text, text_mask)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class Fusion(nn.Module):
    """X: one projection of the image tokens to `width`, `depth` blocks, a final LayerNorm.

    Image tokens may be those of all patches or of the visible ones alone: X adds no positions, the
    image encoder's tokens carry theirs.
    """

    def __init__(
        self,
        *,
        image_width: int,
        text_width: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.project_in = nn.Linear(image_width, width)
        self.blocks = nn.ModuleList(
            FusionBlock(width, text_width, heads, mlp_ratio) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.checkpointing = checkpointing
        self.packs = True  # on a CPU
        initialise(self)

    def forward(self, image: Encoded, text: Encoded) -> Encoded:
        """Image tokens of width d at the positions they had, and their mean as pooled token."""
        x, packing = self.project_in(image.tokens), None
        if self.packs and x.device.type == "cpu" and not bool(image.mask.all()):
            packing = Packing.of(image.mask)
            x = packing.pack(x)
        for block in self.blocks:
            arguments = (x, image.mask, packing, text.tokens, text.mask)
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
        normed: Tensor = self.norm(x).float()
        tokens = normed if packing is None else packing.unpack(normed)
        return Encoded(tokens, image.position, image.mask, pool(tokens, image.mask))
