"""Joint embeddings as points whose squared distance is the energy.

A calibrated energy is E = ½ ‖u − v‖² − ½ b_i + terms of the query alone (`objectives/calibration`),
so the point [u ; √(b_max − b_i)] has half the squared distance E + constant from the query [v ; 0]:
the lowest energies are nearest neighbours, and clusters of points lie where queries do. Rows of
length 1 are points as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tijepa.embedder import Form
from tijepa.search.shelf import Side

__all__ = ["as_asked", "as_points", "as_queries", "point_floor"]

_BLOCK = 65_536


def _scalar(values: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
    """−b of images [u ; −a ; 1] or texts [v ; 1 ; −c], up to a constant: 2 a − ‖u‖²."""
    own = values[:, -2] if side == "images" else values[:, -1]
    squares: NDArray[np.float32] = np.square(values[:, :-2]).sum(axis=1)
    return -2 * own - squares


def point_floor(values: NDArray[np.float32], form: Form, side: Side) -> float:
    """−b_max of all rows, up to a constant, which `as_points` needs."""
    if form != "calibrated":
        return 0.0
    return min(
        float(_scalar(values[start : start + _BLOCK], side).min())
        for start in range(0, len(values), _BLOCK)
    )


def as_points(
    values: NDArray[np.float32], form: Form, side: Side, floor: float
) -> NDArray[np.float32]:
    """The points of some rows of one side."""
    if form != "calibrated":
        return np.ascontiguousarray(values)
    extra = np.sqrt(np.maximum(_scalar(values, side) - floor, 0))
    return np.concatenate([values[:, :-2], extra[:, None]], axis=1)


def as_asked(queries: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """The points that rows of the other side ask from."""
    if form != "calibrated":
        return np.ascontiguousarray(queries)
    return np.concatenate([queries[:, :-2], np.zeros_like(queries[:, :1])], axis=1)


def as_queries(values: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """Rows of one side as if they were of the other, to ask for each other."""
    some = np.array(values)
    if form == "calibrated":
        some[:, -2:] = some[:, [-1, -2]]
    return some
