"""A regularizer that asks for white embeddings: the covariance shall be the identity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.objectives.distributed import Distributed
from tijepa.registry import Positive, Section, register


class WhiteningConfig(Section):
    """What `whitening` is set by."""

    epsilon: Positive = 1e-3  # added to every variance


@register("regularizer", "whitening", config=WhiteningConfig)
class Whitening:
    """(tr C − log det C − d) / d of the covariance C + ε of a batch of at least two: Stein's loss.

    Twice the divergence of N(0, C) from N(0, 1) for each dimension (James and Stein 1961): 0 for
    white embeddings alone, the aim of W-MSE (arXiv 2007.06346), which whitens the batch itself. A
    direction without variance costs log 1/ε, and the pull on it does not fade as it collapses: the
    gradient of −log σ² is 2/σ (log det against collapse: CorInfoMax, arXiv 2209.07999).
    """

    def __init__(self, *, epsilon: float, processes: Distributed) -> None:
        self.epsilon = epsilon
        self.processes = processes

    def __call__(
        self, embedding: Float[Tensor, "b d"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Deterministic; `generator` is not used."""
        total, d = self.processes.total, embedding.shape[1]
        n = total(embedding.new_tensor(float(len(embedding))))
        centred = embedding - total(embedding.sum(dim=0)) / n
        covariance = total(centred.T @ centred) / (n - 1)
        covariance = covariance + self.epsilon * torch.eye(d, device=embedding.device)
        factor = torch.linalg.cholesky_ex(covariance).L  # positive definite, by ε
        log_det = 2 * factor.diagonal().log().sum()
        loss: Tensor = (covariance.diagonal().sum() - log_det - d) / d
        return loss
