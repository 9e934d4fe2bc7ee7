"""What of joint embeddings a search goes by, and as points whose squared distance is the energy.

A calibrated row holds two (`objectives/calibration`): among images the first half of it is
searched, √½ [w ; −a ; 1] of an image by √½ [w ; 1 ; −c] of a text, among texts the second half.
Minus twice their inner product is the energy,

    E = ½ ‖w_i − w_t‖² + (a − ½ ‖w_i‖²) + terms of the query alone,

so with r = a − ½ ‖w_i‖² the point [√½ w_i ; √(r − r_min)] has the squared distance E + constant
from the query [√½ w_t ; 0]: the lowest energies are nearest neighbours, and clusters of points lie
where queries do. Rows of the other forms are points as they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tijepa.embedder import Form
from tijepa.search.shelf import Side

__all__ = ["as_asked", "as_points", "as_queries", "point_floor", "searched"]

_BLOCK = 65_536


def searched(values: NDArray[np.float32], form: Form, side: Side) -> NDArray[np.float32]:
    """The part of rows, of either modality, by which those of `side` are found; a view."""
    if form != "calibrated":
        return values
    half = values.shape[1] // 2
    return values[:, :half] if side == "images" else values[:, half:]


def _rest(part: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
    """r = a − ½ ‖w‖² of searched parts of rows."""
    own = part[:, -2] if side == "images" else part[:, -1]
    squares: NDArray[np.float32] = np.square(part[:, :-2]).sum(axis=1)
    return -math.sqrt(2) * own - squares


def point_floor(part: NDArray[np.float32], form: Form, side: Side) -> float:
    """r_min of all rows, which `as_points` needs."""
    if form != "calibrated":
        return 0.0
    return min(
        float(_rest(part[start : start + _BLOCK], side).min())
        for start in range(0, len(part), _BLOCK)
    )


def as_points(
    part: NDArray[np.float32], form: Form, side: Side, floor: float
) -> NDArray[np.float32]:
    """The points of searched parts of one side's rows."""
    if form != "calibrated":
        return np.ascontiguousarray(part)
    extra = np.sqrt(np.maximum(_rest(part, side) - floor, 0))
    return np.concatenate([part[:, :-2], extra[:, None]], axis=1)


def as_asked(queries: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """The points that searched parts of the other side's rows ask from."""
    if form != "calibrated":
        return np.ascontiguousarray(queries)
    return np.concatenate([queries[:, :-2], np.zeros_like(queries[:, :1])], axis=1)


def as_queries(part: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """Searched parts of one side as if they were of the other, to ask for each other."""
    some = np.array(part)
    if form == "calibrated":
        some[:, -2:] = some[:, [-1, -2]]
    return some
