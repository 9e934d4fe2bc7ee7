"""A pre-norm transformer: attention, MLP, block, stack.

Shape letters: b items, n tokens, d width, h heads. Inside the stack tokens are either (b, n, d) or,
where padding would cost time (on a CPU), packed to (t, d); `...` stands for both.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tijepa.errors import ConfigError


def attend(
    q: Float[Tensor, "b h n c"],
    k: Float[Tensor, "b h m c"],
    v: Float[Tensor, "b h m c"],
    mask: Bool[Tensor, "b m"] | None,
) -> Float[Tensor, "b h n c"]:
    """Softmax attention to the keys that `mask` marks.

    On a CPU in float32 also under bf16 autocast, whose fused backward is slow there.
    """
    keys = None if mask is None else mask[:, None, None, :]
    on_cpu = q.device.type == "cpu"
    if on_cpu:
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False) if on_cpu else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keys)


def feed_forward(width: int, ratio: float) -> nn.Sequential:
    """Two linear maps with a GELU between, `ratio` times `width` hidden units.

    Raises `ConfigError` where that is less than one.
    """
    hidden = int(width * ratio + 1e-6)  # a ratio read off a weight's shape may fall short by a bit
    if hidden < 1:
        raise ConfigError(
            f"mlp_ratio is {ratio:g}, which leaves no hidden unit at width {width}: it must be at"
            f" least 1/{width}"
        )
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Attention(nn.Module):
    """Multi-head self-attention; tokens whose `mask` is False are not attended to."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "... d"],
        mask: Bool[Tensor, "b n"] | None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "... d"]:
        """Attend every token to the visible ones; each row needs at least one."""
        qkv = self.qkv(x) if packing is None else packing.unpack(self.qkv(x))
        b, n, d = qkv.shape[0], qkv.shape[1], x.shape[-1]
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        tokens = attend(q, k, v, mask).transpose(1, 2).reshape(b, n, d)
        out: Tensor = self.out(tokens if packing is None else packing.pack(tokens))
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, epsilon: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=epsilon)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=epsilon)
        self.mlp = feed_forward(width, mlp_ratio)

    def forward(
        self,
        x: Float[Tensor, "... d"],
        mask: Bool[Tensor, "b n"] | None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "... d"]:
        """One layer."""
        x = x + self.attention(self.norm_attention(x), mask, packing)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class Transformer(nn.Module):
    """`depth` blocks and a final LayerNorm."""

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        checkpointing: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, epsilon) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.checkpointing = checkpointing
        self.packs = True  # on a CPU; off where shapes must not depend on the data

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Run all blocks; with `checkpointing`, activations are computed again in the backward."""
        packing = None
        if mask is not None and self.packs and x.device.type == "cpu":
            packing = Packing.of(mask)
            x = packing.pack(x)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, packing, use_reentrant=False)
            else:
                x = block(x, mask, packing)
        normed: Tensor = self.norm(x).float()
        return normed if packing is None else packing.unpack(normed)


def initialise(module: nn.Module) -> None:
    """Truncated normal weights of std 0.02 and zero biases for every linear map and embedding."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=0.02)


# Rows of different length end to end, so that linear maps spend nothing on padding.


@dataclass(frozen=True)
class Packing:
    """Where the t real tokens of b rows of n stand; `mask` is False at padding."""

    mask: Bool[Tensor, "b n"]
    index: Int[Tensor, " t"]

    @classmethod
    def of(cls, mask: Bool[Tensor, "b n"]) -> Packing:
        """Of the tokens that are not padding (one read from the device)."""
        return cls(mask, mask.flatten().nonzero()[:, 0])

    def pack(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "t d"]:
        """The real tokens, row by row."""
        return x.flatten(0, 1).index_select(0, self.index)

    def unpack(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "b n d"]:
        """Back in their places, zeros at padding."""
        b, n = self.mask.shape
        rows = x.new_zeros(b * n, x.shape[1]).index_copy(0, self.index, x)
        return rows.view(b, n, x.shape[1])


# Fixed sine-cosine positions (Vaswani et al. 2017, section 3.5; 2-D as in MAE and I-JEPA).


def positions_1d(count: int, width: int) -> Float[Tensor, "count width"]:
    """Positions of `count` tokens in a row; `width` is even.

    Frequencies fall geometrically from 1 to 1/10,000: the first half of a row holds the sines,
    the second half the cosines.
    """
    return _encode(torch.arange(count, dtype=torch.float64), width).float()


def positions_2d(rows: int, columns: int, width: int) -> Float[Tensor, "patches width"]:
    """Positions of `rows * columns` patches in row-major order; `width` is divisible by 4.

    Half of the width encodes the row, the other half the column.
    """
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    return torch.cat(
        [_encode(y.flatten(), width // 2), _encode(x.flatten(), width // 2)], dim=1
    ).float()


def _encode(position: Tensor, width: int) -> Tensor:
    frequency = 10_000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = position[:, None] * frequency[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
