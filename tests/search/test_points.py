"""Squared distances of points are energies."""

from __future__ import annotations

import numpy as np
from tests.search.rows import calibrated_rows

from tijepa.search.points import as_asked, as_points, point_floor

IMAGES, TEXTS = calibrated_rows(300, 60)


def test_squared_distances_of_points_are_twice_the_energies_up_to_a_constant_of_the_query() -> None:
    """½ ‖[u ; √(b_max − b)] − [v ; 0]‖² − E is the same for all images, to float32's precision."""
    floor = point_floor(IMAGES, "calibrated", "images")
    points = as_points(IMAGES, "calibrated", "images", floor)
    asked = as_asked(TEXTS[:5], "calibrated")
    half = np.square(points[None].astype(float) - asked[:, None]).sum(2) / 2
    energies = -(TEXTS[:5].astype(float) @ IMAGES.astype(float).T)
    assert np.ptp(half - energies, axis=1).max() < 1e-3


def test_the_same_holds_for_texts_asked_by_images() -> None:
    floor = point_floor(TEXTS, "calibrated", "texts")
    points = as_points(TEXTS, "calibrated", "texts", floor)
    asked = as_asked(IMAGES[:5], "calibrated")
    half = np.square(points[None].astype(float) - asked[:, None]).sum(2) / 2
    energies = -(IMAGES[:5].astype(float) @ TEXTS.astype(float).T)
    assert np.ptp(half - energies, axis=1).max() < 1e-3
