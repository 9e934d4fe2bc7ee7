"""What a scene is and how one is drawn at random: its ground truth, before any pixel or word.

Lengths are drawn on a grid of 64 units and scaled to pixels at the end, so the same scene exists
at every image size. Every scene follows from its key alone, through `random.Random.random`, whose
sequence Python promises to keep.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tijepa.data.scenes.shapes import SHAPES, extent

Box = tuple[float, float, float, float]
Draw = Callable[[], float]
T = TypeVar("T")

GRID = 64.0

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 30, 38),
    "orange": (250, 132, 10),
    "yellow": (250, 226, 40),
    "green": (30, 165, 60),
    "blue": (40, 84, 230),
    "purple": (152, 46, 196),
    "white": (250, 250, 250),
    "black": (16, 16, 18),
}

SIZES: dict[str, tuple[float, float]] = {  # bounds of the radius, in grid units
    "small": (5.0, 5.9),
    "medium": (7.4, 8.6),
    "large": (10.4, 12.2),
}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {  # muted, so that all eight colours stand out
    "grey": (128, 128, 128),
    "brown": (138, 114, 98),
    "slate": (104, 120, 136),
    "sage": (120, 136, 116),
    "mauve": (138, 118, 134),
    "sand": (158, 148, 124),
}

PREDICATES = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TEXTURES = ("plain", "fade", "stripes", "checks", "dots", "clouds")

COUNTS = ((0.15, 1), (0.65, 2), (0.90, 3), (1.0, 4))  # cumulative probability, number of objects

_COMBINATIONS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# Colour number i never meets shape number 3i + 2 (mod 8) in training. Because 3 and 8 share no
# factor, every colour and every shape loses exactly one partner and keeps seven.
NOVEL_COMBINATIONS: tuple[tuple[str, str], ...] = tuple(
    (colour, SHAPES[(3 * number + 2) % len(SHAPES)]) for number, colour in enumerate(COLOURS)
)
_TRAINED = tuple(pair for pair in _COMBINATIONS if pair not in NOVEL_COMBINATIONS)

_MAX_ANGLE = math.radians(12)
_GAP = 1.0  # least distance between boxes and from the border, in grid units
_SLANT = 1.5  # a relation's axis must separate the centres this much more than the other axis


@dataclass(frozen=True)
class SceneObject:
    """One object. centre, radius and box (x0, y0, x1, y1) are in pixels, angle in radians."""

    shape: str
    colour: str
    size: str
    centre: tuple[float, float]
    radius: float
    angle: float
    box: Box


@dataclass(frozen=True)
class Relation:
    """objects[subject] is `predicate` objects[object], as seen by the viewer."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Background:
    """A muted tone under a texture."""

    tone: str
    texture: str


@dataclass(frozen=True)
class Scene:
    """The ground truth of one item. Scenes of one object have no relation.

    No two objects share both colour and shape, and no two boxes touch. `key` seeds what carries no
    content: noise, light, and the choice of words.
    """

    objects: tuple[SceneObject, ...]
    relation: Relation | None
    background: Background
    image_size: int
    key: int

    def content(self) -> tuple[object, ...]:
        """What tells scenes apart: the set of (colour, shape), for two objects also the relation.

        Two scenes of different content never share a true caption: each wording names colour and
        shape of every object, and of two objects at most one relation holds. Among three or four
        several hold, so there only the set counts.
        """
        pairs = tuple(sorted((thing.colour, thing.shape) for thing in self.objects))
        if self.relation is None or len(self.objects) != 2:
            return (pairs,)
        first, second = self.objects[self.relation.subject], self.objects[self.relation.object]
        predicate = self.relation.predicate
        if (first.colour, first.shape) > (second.colour, second.shape):
            predicate = OPPOSITE[predicate]
        return pairs, predicate


def holds(predicate: str, first: Box, second: Box) -> bool:
    """Whether box `first` is clearly `predicate` box `second`.

    The boxes are disjoint along the predicate's axis, and that axis separates the centres at least
    1.5 times as much as the other one. So at most one predicate holds for an ordered pair.
    """
    if predicate in ("right of", "below"):
        return holds(OPPOSITE[predicate], second, first)
    axis = 0 if predicate == "left of" else 1
    along = second[axis] + second[axis + 2] - first[axis] - first[axis + 2]
    other = second[1 - axis] + second[3 - axis] - first[1 - axis] - first[3 - axis]
    return first[axis + 2] <= second[axis] and along >= _SLANT * abs(other)


def pick(draw: Draw, choices: Sequence[T]) -> T:
    """One of `choices`, each with equal probability."""
    return choices[int(draw() * len(choices))]


def stream(key: int, purpose: int) -> Draw:
    """Uniform numbers in [0, 1) that depend on (key, purpose) alone; 0 <= purpose < 8."""
    return random.Random(key * 8 + purpose).random


def draw_scene(key: int, novel: bool, image_size: int) -> Scene:
    """The scene of `key`: free of held-out combinations, or with at least one if `novel`."""
    draw = stream(key, 0)
    level = draw()
    count = next(number for bound, number in COUNTS if level < bound)
    looks = _looks(draw, count, novel)
    while True:
        things = _placed(draw, looks)
        if things is None:
            continue
        relation = None
        if count > 1:
            found = _relations(things)
            if not found:
                continue
            relation = pick(draw, found)
        break
    scale = image_size / GRID
    background = Background(pick(draw, tuple(BACKGROUNDS)), pick(draw, TEXTURES))
    return Scene(
        tuple(_scaled(thing, scale) for thing in things), relation, background, image_size, key
    )


def _looks(draw: Draw, count: int, novel: bool) -> list[tuple[str, str]]:
    """Different (colour, shape) pairs in random order."""
    looks = [pick(draw, NOVEL_COMBINATIONS)] if novel else []
    pool = _COMBINATIONS if novel else _TRAINED
    while len(looks) < count:
        look = pick(draw, pool)
        if look not in looks:
            looks.append(look)
    first = int(draw() * count)  # a held-out pair may stand anywhere
    return looks[first:] + looks[:first]


def _placed(draw: Draw, looks: list[tuple[str, str]]) -> list[SceneObject] | None:
    """Objects on the grid with random sizes, angles and places; None where they find no room."""
    things: list[SceneObject] = []
    larges = 0
    for colour, shape in looks:
        size = pick(draw, tuple(SIZES))
        larges += size == "large"
        if larges > 6 - len(looks):  # four objects leave room for two large ones
            return None
        low, high = SIZES[size]
        radius = low + (high - low) * draw()
        angle = _MAX_ANGLE * (2.0 * draw() - 1.0)
        left, top, right, bottom = extent(shape, radius, angle)
        for _ in range(12):
            x = _GAP - left + draw() * (GRID - 2 * _GAP - right + left)
            y = _GAP - top + draw() * (GRID - 2 * _GAP - bottom + top)
            box = (x + left, y + top, x + right, y + bottom)
            if all(_apart(box, thing.box) for thing in things):
                things.append(SceneObject(shape, colour, size, (x, y), radius, angle, box))
                break
        else:
            return None
    return things


def _apart(a: Box, b: Box) -> bool:
    return a[2] + _GAP <= b[0] or b[2] + _GAP <= a[0] or a[3] + _GAP <= b[1] or b[3] + _GAP <= a[1]


def _relations(things: list[SceneObject]) -> list[Relation]:
    return [
        Relation(i, predicate, j)
        for i, first in enumerate(things)
        for j, second in enumerate(things)
        if i != j
        for predicate in PREDICATES
        if holds(predicate, first.box, second.box)
    ]


def _scaled(thing: SceneObject, scale: float) -> SceneObject:
    if scale == 1.0:
        return thing
    x0, y0, x1, y1 = thing.box
    return SceneObject(
        shape=thing.shape,
        colour=thing.colour,
        size=thing.size,
        centre=(thing.centre[0] * scale, thing.centre[1] * scale),
        radius=thing.radius * scale,
        angle=thing.angle,
        box=(x0 * scale, y0 * scale, x1 * scale, y1 * scale),
    )
