"""The whole model: context encoders, predictors, and target encoders where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.model.encoders import Encoders, target_copy, update_ema
from tijepa.model.mlp import TARGET_NORMS
from tijepa.model.predictors import TokenPredictor
from tijepa.registry import part

DIRECTIONS = ("image_to_text", "text_to_image")


def _of_context(name: str) -> bool:
    return name.startswith("context.")


class NoPrediction(nn.Module):
    """Zero for every input: of a direction that nothing trains there is nothing to expect."""

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Zeros of the shape of `x`."""
        return torch.zeros_like(x)


class Predictors(nn.Module):
    """g_φ: two between pooled embeddings, one transformer between tokens (or none).

    `pooled` holds a `kind`, a registered predictor, and its settings; a direction that is not among
    `directions` is not trained and predicts zero for every input, so that it changes no ranking by
    cosine. `fused` predicts fused image tokens from such tokens, where a task needs it.
    `image_norm` and `text_norm` normalise the pooled embeddings that are predicted.
    """

    image_to_text: nn.Module
    text_to_image: nn.Module

    def __init__(
        self,
        *,
        embed_dim: int,
        pooled: Mapping[str, Any],
        tokens: Mapping[str, Any] | None,
        target_norm: str = "none",
        fused: Mapping[str, Any] | None = None,
        directions: Sequence[str] = DIRECTIONS,
    ) -> None:
        super().__init__()
        for direction in DIRECTIONS:
            trained = direction in directions
            predictor = _pooled_predictor(embed_dim, **pooled) if trained else NoPrediction()
            self.add_module(direction, predictor)
        self.image_norm = TARGET_NORMS[target_norm](embed_dim)
        self.text_norm = TARGET_NORMS[target_norm](embed_dim)
        self.tokens = None if tokens is None else TokenPredictor(**tokens)
        self.fused = None if fused is None else TokenPredictor(**fused)


class TextImageModel(nn.Module):
    """Encoder, encoder, predictors, and the EMA copy of both encoders.

    `predictors` is None for objectives that compare embeddings directly (CLIP, SigLIP); `target`
    is None where no target is an EMA target.
    """

    def __init__(
        self, *, encoders: Mapping[str, Any], predictors: Mapping[str, Any] | None, ema: bool
    ) -> None:
        super().__init__()
        self.context = Encoders(**encoders)
        self.predictors = None if predictors is None else Predictors(**predictors)
        self.target = target_copy(self.context) if ema else None

    def train(self, mode: bool = True) -> TextImageModel:
        """Switch context encoders and predictors; the target encoders stay in evaluation mode."""
        super().train(mode)
        if self.target is not None:
            self.target.eval()
        return self

    def frozen_names(self) -> frozenset[str]:
        """Names in the state of weights that never change; the target encoders share them."""
        return frozenset(
            name for name, p in self.named_parameters() if not p.requires_grad and _of_context(name)
        )

    def update_targets(self, momentum: float, valid: Bool[Tensor, ""] | None = None) -> None:
        """One EMA step of the target encoders, after the optimizer's; none where not `valid`."""
        if self.target is not None:
            update_ema(self.target, self.context, momentum, valid)


def _pooled_predictor(dim: int, *, kind: str = "mlp", **settings: Any) -> nn.Module:
    predictor: nn.Module = part("predictor", kind)(dim=dim, **settings)
    return predictor
