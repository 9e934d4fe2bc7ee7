"""Encoders, heads and fusion: the unit of which the target encoders are an EMA copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.model.fusion import Fusion
from tijepa.model.image_encoder import ImageEncoder
from tijepa.model.mlp import MLP
from tijepa.model.pretrained.image_backbone import ImageBackbone
from tijepa.model.pretrained.text_backbone import TextBackbone
from tijepa.model.text_encoder import TextEncoder
from tijepa.registry import part


class Encoders(nn.Module):
    """Image and text encoder and, for each, the head from its pooled token to dimension D.

    `fusion` lets image tokens read the text (X of the TI-JEPA paper); None where no task needs it.
    The encoders and the fusion treat items one by one; only the heads may look at a whole batch
    (BatchNorm). The arguments are those of `ImageEncoder` or, where they hold `net`,
    `ImageBackbone`, or, where they hold `encoder`, those of the encoder of that name, or the
    encoder itself; the same for the text; (for both heads) those of `MLP`; and those of `Fusion`
    but for its input widths, which are the encoders'.
    """

    def __init__(
        self,
        *,
        image: Mapping[str, Any] | nn.Module,
        text: Mapping[str, Any] | nn.Module,
        head: Mapping[str, Any],
        embed_dim: int,
        fusion: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image = _encoder(image, ImageBackbone, ImageEncoder)
        self.text = _encoder(text, TextBackbone, TextEncoder)
        self.image_head = MLP(inputs=self.image.pooled_width, outputs=embed_dim, **head)
        self.text_head = MLP(inputs=self.text.pooled_width, outputs=embed_dim, **head)
        self.fusion: Fusion | None = None
        if fusion is not None:
            self.fusion = Fusion(image_width=self.image.width, text_width=self.text.width, **fusion)

    def embed_image(self, pooled: Float[Tensor, "b i"]) -> Float[Tensor, "b d"]:
        """Pooled image tokens → pooled embeddings z_I."""
        embedding: Tensor = self.image_head(pooled)
        return embedding

    def embed_text(self, pooled: Float[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Pooled text tokens → pooled embeddings z_T."""
        embedding: Tensor = self.text_head(pooled)
        return embedding


def _encoder(
    arguments: Mapping[str, Any] | nn.Module, pretrained: type[nn.Module], own: type[nn.Module]
) -> Any:
    if isinstance(arguments, nn.Module):
        return arguments
    if "encoder" in arguments:
        return part("encoder", arguments["encoder"])(
            **{name: value for name, value in arguments.items() if name != "encoder"}
        )
    return pretrained(**arguments) if "net" in arguments else own(**arguments)


# The EMA copy that serves as target encoder: θ̄ ← τ θ̄ + (1 − τ) θ.


M = TypeVar("M", bound=nn.Module)


def target_copy(context: M) -> M:
    """An equal copy in evaluation mode whose parameters take no gradient.

    Parameters that are frozen in `context` never move, so the copy shares them.
    """
    frozen = {id(p): p for p in context.parameters() if not p.requires_grad}
    target = copy.deepcopy(context, memo=dict(frozen))
    for parameter in target.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return target.eval()


@torch.no_grad()
def update_ema(
    target: nn.Module, context: nn.Module, momentum: float, valid: Bool[Tensor, ""] | None = None
) -> None:
    """Move every parameter and every running statistic of `target` towards that of `context`.

    Frozen weights, which both share, stay where they are, and so does everything where the flag
    `valid` is False, which is read on its device.

    Counters are copied. Names must agree one to one: a copy that silently stops moving is the
    classic fault of EMA with compiled modules, whose parameters are renamed.
    """
    source = context.state_dict()
    moved = target.state_dict()
    assert source.keys() == moved.keys(), source.keys() ^ moved.keys()
    shared = {name for name, value in moved.items() if value.data_ptr() == source[name].data_ptr()}
    own = [name for name in moved if name not in shared]
    if valid is not None:
        source = {name: torch.where(valid, source[name], moved[name]) for name in own}
    smooth = [name for name in own if moved[name].is_floating_point()]
    if smooth:
        starts, ends = [moved[n] for n in smooth], [source[n] for n in smooth]
        torch._foreach_lerp_(starts, ends, 1.0 - momentum)
    for name in set(own) - set(smooth):
        moved[name].copy_(source[name])
