"""What of joint embeddings a search goes by.

A calibrated row holds two (`objectives/calibration`): among images the first half of it is
searched, √½ [u ; −½ ‖u‖² ; 1] of an image by √½ [v ; 1 ; −c] of a text, among texts the second
half. Minus twice their inner product is the energy, and without their last two numbers they are
points: the smallest ‖u − v‖ is the lowest energy. Rows of the other forms are points as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tijepa.embedder import Form
from tijepa.search.shelf import Side

__all__ = ["as_points", "as_queries", "searched"]


def searched(values: NDArray[np.float32], form: Form, side: Side) -> NDArray[np.float32]:
    """The part of rows, of either modality, by which those of `side` are found; a view."""
    if form != "calibrated":
        return values
    half = values.shape[1] // 2
    return values[:, :half] if side == "images" else values[:, half:]


def as_points(part: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """The points of searched parts of rows."""
    return np.ascontiguousarray(part[:, :-2] if form == "calibrated" else part)


def as_queries(part: NDArray[np.float32], form: Form) -> NDArray[np.float32]:
    """Searched parts of one side as if they were of the other, to ask for each other."""
    some = np.array(part)
    if form == "calibrated":
        some[:, -2:] = some[:, [-1, -2]]
    return some
