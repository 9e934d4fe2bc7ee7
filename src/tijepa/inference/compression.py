"""Shorter rows of the same inner products: a low-rank form of the energy between random pairs.

A search compares rows x of one modality with rows y of the other by x · y. With C_x and C_y their
second moments over training items and C_x^½ C_y^½ = U S Vᵀ, the products of r numbers

    x' = S_r^½ U_rᵀ C_x^-½ x,   y' = S_r^½ V_rᵀ C_y^-½ y

are nearest to x · y in the mean square over independent items (Eckart and Young 1936, of the
matrix of all products). What is left out is Σ_{k>r} S_k².
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features import Modality

# of a whole row, two halves: with its row number 1 kB in half precision, a gigabyte a million
ROW_NUMBERS = 488


@dataclass(frozen=True)
class LowRank:
    """Maps of both modalities' rows to r numbers, and what is moved between their own terms.

    An energy is −x · y + own_x + own_y. `moved` is taken from the own terms of what is searched
    and given to those of what asks: near 0 they lose nothing in half precision.
    """

    image: Float[Tensor, "r m"]
    text: Float[Tensor, "r m"]
    moved: Float[Tensor, ""]

    def of(self, modality: Modality, w: Float[Tensor, "n m"]) -> Float[Tensor, "n r"]:
        """x' or y'."""
        return w @ (self.image if modality == "image" else self.text).T

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_state(cls, named: Mapping[str, Tensor], prefix: str) -> LowRank:
        """The inverse of `state`, of what stands under `prefix`."""
        return cls(
            **{name: named[f"{prefix}.{name}"].double() for name in cls.__dataclass_fields__}
        )


def fit_low_rank(
    image: Float[Tensor, "n m"],
    text: Float[Tensor, "t m"],
    searched_own: Float[Tensor, " s"],
    rank: int,
) -> LowRank:
    """The best maps to `rank` ≤ m numbers for rows of training items."""
    x, y = _Root.of(image), _Root.of(text)
    u, s, v = torch.linalg.svd(x.root @ y.root)
    size = s[:rank].sqrt()[:, None]
    return LowRank(
        size * (u[:, :rank].T @ x.inverse), size * (v[:rank] @ y.inverse), searched_own.mean()
    )


@dataclass(frozen=True)
class _Root:
    """C^½ and C^-½ of second moments C; directions without variance have no inverse."""

    root: Float[Tensor, "m m"]
    inverse: Float[Tensor, "m m"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n m"]) -> _Root:
        values, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        sizes = values.clamp_min(0).sqrt()
        known = sizes > 1e-6 * sizes.max()
        inverse = torch.where(known, 1 / sizes.clamp_min(1e-300), 0.0)
        return cls((axes * sizes) @ axes.T, (axes * inverse) @ axes.T)
