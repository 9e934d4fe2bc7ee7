"""Images show what the ground truth says: colours, boxes, shapes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.data.scenes import Scene, Scenes
from tijepa.data.scenes.shapes import DISTANCES, OUTLINES, SHAPES, extent
from tijepa.data.scenes.source import render
from tijepa.data.scenes.world import COLOURS, Background, SceneObject

shapes = st.sampled_from(SHAPES)
angles = st.floats(-0.2, 0.2)


def inside(shape: str, radius: float, angle: float, fine: int = 8) -> np.ndarray:
    """Mask of a shape centred on a field of 64 units, `fine` samples to the unit."""
    line = ((np.arange(64 * fine) + 0.5) / fine - 32.0).astype(np.float32)
    x, y = line[None, :], line[:, None]
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return DISTANCES[shape](x * cos + y * sin, y * cos - x * sin, radius) < 0


@settings(deadline=None, max_examples=24)
@given(shape=shapes, radius=st.floats(5.0, 12.0), angle=angles)
def test_extent_is_the_bounding_box_of_the_points_inside(
    shape: str, radius: float, angle: float
) -> None:
    """Samples lie 1/8 apart, so each side agrees within 1/8 and a sharp tip within 1/2."""
    rows, columns = np.nonzero(inside(shape, radius, angle))
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = extent(shape, radius, angle)
    for side, where in zip(found, expected, strict=True):
        assert side / 8 - 32.0 == pytest.approx(where, abs=0.5)


def test_areas_are_those_of_geometry() -> None:
    """At radius 1: circle π; square (2·0.9)² = 3.24; triangle ½·2·1.75 = 1.75; diamond
    2·0.68·1 = 1.36; cross two bars 4·0.34·2 less their overlap (2·0.34)² -> 2.72 - 0.4624;
    ring π(1 - 0.46²); star ten triangles ½·0.46·sin 36° each, 2.3·sin 36°.
    """
    expected = {
        "circle": math.pi,
        "square": 3.24,
        "triangle": 1.75,
        "diamond": 1.36,
        "cross": 2.72 - 0.4624,
        "ring": math.pi * (1 - 0.46**2),
        "star": 2.3 * math.sin(math.pi / 5),
    }
    for shape, area in expected.items():
        assert inside(shape, 12.0, 0.1).sum() / 64 / 144 == pytest.approx(area, rel=0.01)


def test_distance_falls_by_one_per_pixel_at_the_edge() -> None:
    """The gradient of a signed distance has length 1, which makes every edge one pixel wide."""
    line = (np.arange(-16, 16, 0.25)).astype(np.float32)
    for shape in SHAPES:
        field = DISTANCES[shape](
            line[None, :] + np.zeros_like(line)[:, None], line[:, None] + 0 * line[None, :], 10.0
        )
        down, across = np.gradient(field, 0.25)
        steep = np.hypot(down, across)[np.abs(field) < 0.5]
        assert np.median(steep) == pytest.approx(1.0, abs=0.05)


def test_outlines_reach_the_unit_radius_at_most_little_beyond() -> None:
    for points in OUTLINES.values():
        assert 0.85 <= max(math.hypot(*point) for point in points) <= 1.3


@settings(deadline=None, max_examples=40)
@given(split=st.sampled_from(["train", "test", "novel"]), index=st.integers(0, 99_999))
def test_objects_show_their_colour_inside_their_box(split: str, index: int) -> None:
    """At points well inside, the mean colour lies nearer to the object's than to any other."""
    source = Scenes(split, 100_000)
    image = source.image(index, 64).astype(np.float32)
    centres = np.arange(64, dtype=np.float32) + np.float32(0.5)
    for thing in source.scene(index).objects:
        x = centres[None, :] - np.float32(thing.centre[0])
        y = centres[:, None] - np.float32(thing.centre[1])
        cos, sin = np.float32(math.cos(thing.angle)), np.float32(math.sin(thing.angle))
        deep = DISTANCES[thing.shape](x * cos + y * sin, y * cos - x * sin, thing.radius) < -0.7
        assert deep.sum() >= 3
        rows, columns = np.nonzero(deep)
        assert thing.box[0] < columns.min()
        assert columns.max() < thing.box[2]
        assert thing.box[1] < rows.min()
        assert rows.max() < thing.box[3]
        mean = image[deep].mean(axis=0)
        distance = {name: np.abs(mean - colour).sum() for name, colour in COLOURS.items()}
        assert min(distance, key=lambda name: distance[name]) == thing.colour


@settings(deadline=None, max_examples=30)
@given(shape=shapes, x=st.floats(16, 48), y=st.floats(16, 48), angle=angles, key=st.integers(0))
def test_an_object_changes_its_box_and_nothing_else(
    shape: str, x: float, y: float, angle: float, key: int
) -> None:
    """Compared with an invisible object that draws the same jitter, pixels differ up to within 1.5
    pixels of each side of the box and at most 2.1 beyond (the smooth edge of a sharp tip).
    """
    left, top, right, bottom = extent(shape, 11.0, angle)
    box = (x + left, y + top, x + right, y + bottom)
    thing = SceneObject(shape, "black", "large", (x, y), 11.0, angle, box)
    dot = replace(thing, shape="circle", radius=-1.0)  # a circle below size zero covers nothing
    scenes = [Scene((each,), None, Background("sand", "plain"), 64, key) for each in (thing, dot)]
    images = [render(scene).astype(int) for scene in scenes]
    rows, columns = np.nonzero(np.abs(images[0] - images[1]).sum(axis=2) > 0)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    for side, where, outward in zip(found, box, (-1, -1, 1, 1), strict=True):
        assert -1.5 <= (side - where) * outward <= 2.1


def test_images_vary_in_background_light_and_noise() -> None:
    """The same scene under other keys: another image each time; the same key: the same one."""
    scene = Scenes("train", 10).scene(4)
    images = {render(replace(scene, key=key)).tobytes() for key in (1, 2, 3, 3)}
    assert len(images) == 3
