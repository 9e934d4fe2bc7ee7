"""ViT-Tiny/16 at 224 pixels as functions of its weights, under timm's names, without gradient.

Dosovitskiy et al. 2021: pre-norm blocks, a class token in front, learned positions.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["WIDTH", "load_vit", "photo_features"]

WIDTH, DEPTH, HEADS, PATCH, SIDE, GRID = 192, 12, 3, 16, 224, 14
_EPSILON = 1e-6
Weights = dict[str, Tensor]


def load_vit(folder: Path) -> Weights:
    """The weights in `folder`/model.safetensors."""
    return safetensors.torch.load_file(folder / "model.safetensors")


@torch.no_grad()
def photo_features(weights: Weights, images: Tensor) -> Tensor:
    """(b, 6 · 192) of images (b, 3, 224, 224) in [-1, 1].

    End to end: class token, mean of the patch tokens, means of the four quarters, row-major.
    """
    tokens = _tokens(weights, images).float()
    patches = tokens[:, 1:]
    half = GRID // 2
    quarters = patches.reshape(-1, 2, half, 2, half, WIDTH).mean(dim=(2, 4)).flatten(1)
    return torch.cat([tokens[:, 0], patches.mean(dim=1), quarters], dim=1)


def _tokens(weights: Weights, images: Tensor) -> Tensor:
    x = F.conv2d(
        images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=PATCH
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1) + weights["pos_embed"]
    for number in range(DEPTH):
        block = {
            name.removeprefix(f"blocks.{number}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{number}.")
        }
        x = x + _attention(block, _norm(block, "norm1", x))
        hidden = F.gelu(_linear(block, "mlp.fc1", _norm(block, "norm2", x)))
        x = x + _linear(block, "mlp.fc2", hidden)
    return _norm(weights, "norm", x)


def _attention(block: Weights, x: Tensor) -> Tensor:
    b, n, d = x.shape
    qkv = _linear(block, "attn.qkv", x).float()
    q, k, v = qkv.view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
    with torch.autocast("cpu", enabled=False):
        attended = F.scaled_dot_product_attention(q, k, v)
    return _linear(block, "attn.proj", attended.transpose(1, 2).reshape(b, n, d))


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    shape = (x.shape[-1],)
    return F.layer_norm(x, shape, weights[f"{name}.weight"], weights[f"{name}.bias"], _EPSILON)
