"""How a pooled prediction is compared with its target: by one of the energies, or by covariance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from tijepa.model.covariance_predictor import CovariancePredictor
from tijepa.objectives.energies import Energy
from tijepa.objectives.processes import Alone, Processes

__all__ = ["ByCovariance", "ByPrediction", "PooledEnergy"]

# predictor, context's embeddings, targets (fixed) → the energy of each pair
PooledEnergy = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ByPrediction:
    """E(g(context), target) of a trained predictor g."""

    energy: Energy

    def __call__(
        self, predictor: nn.Module, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """The energy of each pair."""
        return self.energy(predictor(context), target)


@dataclass(frozen=True)
class ByCovariance:
    """½ xᵀ C x − xᵀ t (`model/covariance_predictor.py`), C from the batch in all `processes`."""

    processes: Processes = field(default_factory=Alone)

    def __call__(
        self, predictor: nn.Module, context: Float[Tensor, "b d"], target: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """The energy of each pair; while training the predictor first takes in the batch."""
        assert isinstance(predictor, CovariancePredictor), type(predictor)
        if predictor.training:
            predictor.observe(context, target, self.processes.total)
        return predictor.energy(context, target)
