"""The eight shapes: an outline to box them, a signed distance to paint them.

Each shape lives in its own coordinates (u to the right, v downwards), centred on its bounding box
while upright, at radius 1. Distances are negative inside and exact enough near the edge to
smooth it over one pixel; away from the edge only their sign is meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Point = tuple[float, float]

_SQUARE = 0.9  # half side
_TRIANGLE = ((0.0, -0.95), (1.0, 0.8), (-1.0, 0.8))
_DIAMOND = (0.68, 1.0)  # half width, half height
_BAR = 0.34  # half width of the bars of a cross
_HOLE = 0.46  # inner radius of a ring
_STAR_INNER = 0.46  # radius of the inner corners; the tips lie on the unit circle
_STAR_LIFT = 0.5 * (1.0 - math.cos(math.pi / 5))  # moves the star's box to the centre
_MOON_CUT = (0.5, 0.8)  # centre and radius of the disc that is cut away
_MOON_TIP = 0.61  # u where the two circles meet: u^2 - (u - 0.5)^2 = 1 - 0.64
_MOON_SHIFT = 0.5 * (1.0 - _MOON_TIP)


def _arc(start: float, stop: float, count: int) -> tuple[Point, ...]:
    step = (stop - start) / count
    angles = [start + step * number for number in range(count + 1)]
    return tuple((math.cos(angle), math.sin(angle)) for angle in angles)


def _moon_outline() -> tuple[Point, ...]:
    tip = math.acos(_MOON_TIP)
    return tuple((u + _MOON_SHIFT, v) for u, v in _arc(tip, 2 * math.pi - tip, 24))


_ROUND = _arc(0.0, 2 * math.pi, 32)[:-1]
_BAR_ENDS = tuple(corner for a in (-1.0, 1.0) for b in (-_BAR, _BAR) for corner in ((a, b), (b, a)))

OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": _ROUND,
    "square": tuple((a, b) for a in (-_SQUARE, _SQUARE) for b in (-_SQUARE, _SQUARE)),
    "triangle": _TRIANGLE,
    "diamond": ((_DIAMOND[0], 0.0), (-_DIAMOND[0], 0.0), (0.0, _DIAMOND[1]), (0.0, -_DIAMOND[1])),
    "star": tuple(
        (math.sin(2 * math.pi * k / 5), _STAR_LIFT - math.cos(2 * math.pi * k / 5))
        for k in range(5)
    ),
    "cross": _BAR_ENDS,
    "ring": _ROUND,
    "moon": _moon_outline(),
}
"""Points whose extremes are those of the shape, at radius 1 and upright."""

SHAPES = tuple(OUTLINES)


def extent(shape: str, radius: float, angle: float) -> tuple[float, float, float, float]:
    """Offsets (left, top, right, bottom) of the bounding box from the centre, in `radius`' unit.

    `angle` turns the shape clockwise on the screen, in radians.
    """
    if shape in ("circle", "ring"):
        return -radius, -radius, radius, radius
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    points = OUTLINES[shape]
    xs = [u * cos - v * sin for u, v in points]
    ys = [u * sin + v * cos for u, v in points]
    return min(xs), min(ys), max(xs), max(ys)


def _triangle(u: Field, v: Field, r: float) -> Field:
    apex, corner = _TRIANGLE[0], _TRIANGLE[1]
    along = (corner[0] - apex[0], corner[1] - apex[1])
    length = math.hypot(*along)
    normal = (along[1] / length, -along[0] / length)  # outwards from the right-hand side
    side = np.abs(u) * np.float32(normal[0]) + (v - np.float32(apex[1] * r)) * np.float32(normal[1])
    distance: Field = np.maximum(side, v - np.float32(corner[1] * r))
    return distance


def _diamond(u: Field, v: Field, r: float) -> Field:
    width, height = _DIAMOND
    length = math.hypot(width, height)
    across = np.abs(u) * np.float32(height / length)
    down = np.abs(v) * np.float32(width / length)
    distance: Field = across + down - np.float32(r * width * height / length)
    return distance


def _star(u: Field, v: Field, r: float) -> Field:
    v = v - np.float32(_STAR_LIFT * r)
    sector = 2 * math.pi / 5
    turn: Field = np.arctan2(u, -v)
    nearest: Field = np.rint(turn * np.float32(1 / sector)) * np.float32(sector)
    turn = np.abs(turn - nearest)
    distance: Field = np.hypot(u, v)
    # In the folded half sector the edge runs from the tip (1, 0) to the inner corner.
    inner = (_STAR_INNER * math.cos(sector / 2), _STAR_INNER * math.sin(sector / 2))
    length = math.hypot(1.0 - inner[0], inner[1])
    normal = (inner[1] / length, (1.0 - inner[0]) / length)
    along: Field = distance * np.cos(turn) - np.float32(r)
    aside: Field = distance * np.sin(turn)
    result: Field = along * np.float32(normal[0]) + aside * np.float32(normal[1])
    return result


def _cross(u: Field, v: Field, r: float) -> Field:
    u, v = np.abs(u), np.abs(v)
    length, breadth = np.maximum(u, v) - np.float32(r), np.minimum(u, v) - np.float32(_BAR * r)
    distance: Field = np.maximum(length, breadth)
    return distance


def _ring(u: Field, v: Field, r: float) -> Field:
    distance = np.hypot(u, v)
    band: Field = np.maximum(distance - np.float32(r), np.float32(_HOLE * r) - distance)
    return band


def _moon(u: Field, v: Field, r: float) -> Field:
    u = u - np.float32(_MOON_SHIFT * r)
    cut = np.hypot(u - np.float32(_MOON_CUT[0] * r), v)
    rest: Field = np.maximum(np.hypot(u, v) - np.float32(r), np.float32(_MOON_CUT[1] * r) - cut)
    return rest


DISTANCES: dict[str, Callable[[Field, Field, float], Field]] = {
    "circle": lambda u, v, r: np.hypot(u, v) - np.float32(r),
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) - np.float32(_SQUARE * r),
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
}
"""Signed distance in pixels of points (u, v) in pixels to the shape of radius r pixels."""
