"""The token-level predictor: context tokens + mask tokens → predicted target embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tijepa.model.encoded import Encoded
from tijepa.model.positions import positions_1d, positions_2d
from tijepa.model.transformer import Transformer, initialise

__all__ = ["TokenPredictor"]


class TokenPredictor(nn.Module):
    """A narrow transformer over the context tokens of one or both modalities and mask tokens.

    A mask token is a learned query of the wanted modality plus the position of the thing to
    predict (I-JEPA, arXiv 2301.08243, section 3). One predictor serves every token-level task.
    Without `text_width` it knows images alone, or whatever else stands on the grid of patches.
    """

    def __init__(
        self,
        *,
        image_width: int,
        text_width: int | None = None,
        grid: int,
        max_tokens: int | None = None,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert (text_width is None) == (max_tokens is None), (text_width, max_tokens)
        widths = {"image": image_width}
        if text_width is not None:
            widths["text"] = text_width
        self.project_in = nn.ModuleDict({m: nn.Linear(widths[m], width) for m in widths})
        self.project_out = nn.ModuleDict({m: nn.Linear(width, widths[m]) for m in widths})
        self.register_buffer("position_image", positions_2d(grid, grid, width), persistent=False)
        if max_tokens is not None:
            self.register_buffer("position_text", positions_1d(max_tokens, width), persistent=False)
        self.transformer = Transformer(
            width=width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, checkpointing=checkpointing
        )
        initialise(self)
        self.mask_token = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(width) * 0.02) for m in widths}
        )

    def forward(
        self,
        context: Sequence[tuple[str, Encoded]],
        modality: str,
        index: Int[Tensor, "b m"],
        mask: Bool[Tensor, "b m"],
    ) -> Float[Tensor, "b m d"]:
        """Predict the target tokens at `index` of `modality` from `(modality, encoded)` contexts.

        Rows of the result where `mask` is False are padding and mean nothing.
        """
        parts = [self.project_in[m](e.tokens) + self._position(m)[e.position] for m, e in context]
        masks = [e.mask for _, e in context]
        queries = self.mask_token[modality] + self._position(modality)[index]
        x = torch.cat([*parts, queries.to(parts[0].dtype)], dim=1)
        out = self.transformer(x, torch.cat([*masks, mask], dim=1))
        predicted: Tensor = self.project_out[modality](out[:, -index.shape[1] :])
        return predicted

    def _position(self, modality: str) -> Tensor:
        position: Tensor = getattr(self, f"position_{modality}")
        return position
