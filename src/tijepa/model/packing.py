"""Rows of different length end to end, so that linear maps spend nothing on padding."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Packing"]


@dataclass(frozen=True)
class Packing:
    """Where the t real tokens of b rows of n stand; `mask` is False at padding."""

    mask: Bool[Tensor, "b n"]
    index: Int[Tensor, " t"]

    @classmethod
    def of(cls, mask: Bool[Tensor, "b n"]) -> Packing:
        """Of the tokens that are not padding (one read from the device)."""
        return cls(mask, mask.flatten().nonzero()[:, 0])

    def pack(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "t d"]:
        """The real tokens, row by row."""
        return x.flatten(0, 1).index_select(0, self.index)

    def unpack(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "b n d"]:
        """Back in their places, zeros at padding."""
        b, n = self.mask.shape
        rows = x.new_zeros(b * n, x.shape[1]).index_copy(0, self.index, x)
        return rows.view(b, n, x.shape[1])
