"""Image networks of the library transformers: I-JEPA, ViT, DINOv2, DINOv3, SigLIP, CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.errors import ConfigError
from tijepa.model.backbones.library import config_of, library, new_network
from tijepa.model.backbones.seen import ImageNet, Seen
from tijepa.model.encoded import Visible, gather_tokens

__all__ = ["TransformersImageNet"]

# whose pooled output is the summary: CLIP's normed class token, SigLIP's attention pooling
_POOLED = ("clip_vision_model", "siglip_vision_model")
_NO_SUMMARY = ("ijepa",)
_RESIZES = ("vit", "ijepa", "clip_vision_model", "siglip_vision_model")  # positions, when asked
_ATTENTION = "tijepa_visible"

_visible: ContextVar[Visible | None] = ContextVar("visible", default=None)


class TransformersImageNet(ImageNet):
    """A network of `last_hidden_state`, its prefix of class and register tokens taken off.

    Hidden patches are dropped between the embeddings and the first layer, and padding is kept out
    of the attention, so that every network of this family can see a part of a picture. (SigLIP's
    own pooling of a part alone also reads the padding; no task uses that.)
    """

    def __init__(self, description: Mapping[str, Any], image_size: int) -> None:
        super().__init__()
        kind = description["config"]["model_type"]
        built = config_of(description)
        built._attn_implementation = _registered()
        self.inner = new_network(description, built)
        embeddings = getattr(self.inner, "embeddings", None)
        if not isinstance(embeddings, nn.Module) or not hasattr(built, "patch_size"):
            raise ConfigError(
                f"backbone of model_type '{kind}' is no vision transformer that tijepa can read: "
                "use ViT, I-JEPA, DINOv2, DINOv3, CLIP or SigLIP"
            )
        self.width = int(built.hidden_size)
        self.grid = image_size // int(built.patch_size)
        pools = kind in _POOLED and getattr(built, "vision_use_head", True)
        self._pooled = pools
        self.has_summary = pools or (kind not in (*_NO_SUMMARY, *_POOLED))
        resizes = kind in _RESIZES and image_size != built.image_size
        self._extra = {"interpolate_pos_encoding": True} if resizes else {}
        embeddings.register_forward_hook(self._drop_hidden)
        rope = getattr(self.inner, "rope_embeddings", None)
        if isinstance(rope, nn.Module):
            rope.register_forward_hook(self._drop_rotations)

    def forward(self, images: Float[Tensor, "b 3 s s"], visible: Visible | None = None) -> Seen:
        """See `ImageNet.forward`."""
        with _seeing(visible):
            out = self.inner(pixel_values=images, **self._extra)
        hidden = out.last_hidden_state
        count = self.grid**2 if visible is None else visible.index.shape[1]
        prefix = hidden.shape[1] - count
        summary = None
        if self.has_summary:
            summary = out.pooler_output if self._pooled else hidden[:, 0]
        if visible is None:
            index = torch.arange(count, device=hidden.device).expand(len(hidden), -1)
            mask = torch.ones_like(index, dtype=torch.bool)
        else:
            index, mask = visible.index, visible.mask
        return Seen(hidden[:, prefix:], index, mask, summary)

    def _drop_hidden(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        visible = _visible.get()
        if visible is None:
            return out
        prefix = out.shape[1] - self.grid**2
        return torch.cat([out[:, :prefix], gather_tokens(out[:, prefix:], visible.index)], dim=1)

    def _drop_rotations(
        self, module: nn.Module, inputs: Any, out: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Of each row its own patches' rotations, alike for all heads."""
        visible = _visible.get()
        if visible is None:
            return out
        cosine, sine = (part[visible.index][:, None] for part in out)
        return cosine, sine


@contextmanager
def _seeing(visible: Visible | None) -> Iterator[None]:
    token = _visible.set(visible)
    try:
        yield
    finally:
        _visible.reset(token)


def _registered() -> str:
    """The name under which the library finds our attention."""
    transformers = library()
    transformers.AttentionInterface.register(_ATTENTION, _attention)
    transformers.AttentionMaskInterface.register(_ATTENTION, _no_mask)
    return _ATTENTION


def _no_mask(*_: Any, **__: Any) -> None:
    """The library's own masks: none, for pictures of one batch have the same size."""


def _attention(
    module: nn.Module,
    query: Float[Tensor, "b h n d"],
    key: Float[Tensor, "b h m d"],
    value: Float[Tensor, "b h m d"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "b n h d"], None]:
    """Attention of all tokens to all that are not padding; the prefix always is visible."""
    visible = _visible.get()
    keys: Bool[Tensor, "b 1 1 m"] | None = None
    if visible is not None:
        prefix = key.shape[2] - visible.mask.shape[1]
        keys = F.pad(visible.mask, (prefix, 0), value=True)[:, None, None, :]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=keys, scale=scaling)
    return out.transpose(1, 2).contiguous(), None
