"""The MLP of heads and pooled predictors."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["MLP"]


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
