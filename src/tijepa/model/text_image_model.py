"""The whole model: encoders and heads, their EMA copy, and predictors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tijepa.model.encoders import ImageEncoder, TextEncoder
from tijepa.model.fusion import Fusion
from tijepa.model.mlp import MLP, TARGET_NORMS
from tijepa.model.predictors import TokenPredictor
from tijepa.model.pretrained.backbones import ImageBackbone, TextBackbone
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
