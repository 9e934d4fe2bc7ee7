"""Encoders, heads and fusion: the unit of which the target encoders are an EMA copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.backbones.image_backbone import ImageBackbone
from tijepa.model.backbones.text_backbone import TextBackbone
from tijepa.model.fusion import Fusion
from tijepa.model.image_encoder import ImageEncoder
from tijepa.model.mlp import MLP
from tijepa.model.text_encoder import TextEncoder

__all__ = ["Encoders"]


class Encoders(nn.Module):
    """Image and text encoder and, for each, the head from its pooled token to dimension D.

    `fusion` lets image tokens read the text (X of the TI-JEPA paper); None where no task needs it.
    The encoders and the fusion treat items one by one; only the heads may look at a whole batch
    (BatchNorm). The arguments are those of `ImageEncoder` or, where they hold `net`,
    `ImageBackbone`, the same for the text, (for both heads) those of `MLP`, and those of `Fusion`
    but for its input widths, which are the encoders'.
    """

    def __init__(
        self,
        *,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        head: Mapping[str, Any],
        embed_dim: int,
        fusion: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image = ImageBackbone(**image) if "net" in image else ImageEncoder(**image)
        self.text = TextBackbone(**text) if "net" in text else TextEncoder(**text)
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
