"""The MLP of heads and pooled predictors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tijepa.registry import NonNegativeInt, PositiveInt, Section, register


class MLP(nn.Module):
    """`depth` hidden layers of linear, norm, GELU, then a linear map; depth 0 is the map alone.

    With `norm="batch"` the statistics are those of the items passed together, in evaluation mode
    the running ones; it keeps the variance of every unit alive (LeVLJEPA, arXiv 2607.00784).

    With `skip` a linear map of the input is added, and the hidden layers start by adding nothing:
    they learn what the line lacks.
    """

    def __init__(
        self,
        *,
        inputs: int,
        hidden: int,
        outputs: int,
        depth: int,
        norm: str = "batch",
        skip: bool = False,
    ) -> None:
        super().__init__()
        assert norm in ("batch", "none"), norm
        layers: list[nn.Module] = []
        for layer in range(depth):
            layers.append(nn.Linear(inputs if layer == 0 else hidden, hidden, bias=norm == "none"))
            if norm == "batch":
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(nn.GELU())
        layers.append(nn.Linear(hidden if depth else inputs, outputs))
        self.layers = nn.Sequential(*layers)
        self.skip: nn.Linear | None = None
        if skip and depth:
            self.skip = nn.Linear(inputs, outputs)
            for parameter in layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        """Map every row."""
        out: Tensor = self.layers(x)
        return out if self.skip is None else out + self.skip(x)


class MLPPredictorConfig(Section):
    """An MLP from one modality's pooled embedding to the other's; depth 0 is one linear map."""

    depth: NonNegativeInt = 1
    hidden: PositiveInt = 512
    norm: Literal["batch", "none"] = "batch"


@register("predictor", "mlp", config=MLPPredictorConfig)
def mlp_predictor(*, dim: int, depth: int, hidden: int, norm: str = "batch") -> MLP:
    """An MLP between pooled embeddings of dimension `dim`."""
    return MLP(inputs=dim, outputs=dim, depth=depth, hidden=hidden, norm=norm)


# Normalisation of the pooled embeddings that are predicted: what a prediction is compared with.
#
# Statistics over items are those of the batch while training, and a running average of them in
# evaluation mode, as in the heads' BatchNorm. A running average alone would lag behind a target
# that moves fast in the first steps, which is when a constant is easiest to predict. The whole
# batch is passed at once also under gradient accumulation, so that its statistics are exact, and
# updated once a step. The average is part of the model: evaluation and search normalise as
# training did.

Sum = Callable[[Tensor], Tensor]  # over the processes that share the batch


class NoTargetNorm(nn.Module):
    """Targets as they are."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b d"], total: Sum | None = None) -> Float[Tensor, "b d"]:
        """`x`."""
        return x


class LayerTargetNorm(nn.Module):
    """Each item over its own dimensions: mean 0, variance 1 (LayerNorm without weights)."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b d"], total: Sum | None = None) -> Float[Tensor, "b d"]:
        """Needs no other items, so `total` is not used."""
        return F.layer_norm(x, x.shape[-1:])


class BatchTargetNorm(nn.Module):
    """Each dimension over the items: mean 0 and, with `scale`, variance 1."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, dim: int, *, scale: bool, momentum: float = 0.1, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.scale = scale
        self.momentum = momentum
        self.epsilon = epsilon
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Float[Tensor, "b d"], total: Sum | None = None) -> Float[Tensor, "b d"]:
        """Normalise; while training `total` sums over the processes that share the batch."""
        mean, variance = (
            self._batch(x, total) if self.training else (self.running_mean, self.running_var)
        )
        centred = x - mean
        return centred / (variance + self.epsilon).sqrt() if self.scale else centred

    def _batch(self, x: Tensor, total: Sum | None) -> tuple[Tensor, Tensor]:
        """Statistics of the batch, which the running ones take in."""
        add = total or (lambda part: part)
        n = add(x.new_full((), len(x)))
        mean = add(x.sum(dim=0)) / n
        variance = add((x - mean).square().sum(dim=0)) / n
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach(), self.momentum)
        return mean, variance


TARGET_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": NoTargetNorm,
    "center": lambda dim: BatchTargetNorm(dim, scale=False),
    "standardise": lambda dim: BatchTargetNorm(dim, scale=True),
    "layer": LayerTargetNorm,
}
