"""Which part of joint embeddings is searched, and that its distances are energies."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.rows import calibrated_rows

from tijepa import Embedder
from tijepa.inference.calibration import joint_of
from tijepa.search.ivf import as_asked, as_points, as_queries, point_floor, searched
from tijepa.search.vector_store import SIDES, Side

IMAGES, TEXTS = calibrated_rows(300, 60)


@pytest.mark.parametrize("side", SIDES)
def test_squared_distances_of_points_are_energies_up_to_a_constant_of_the_query(side: Side) -> None:
    """‖[√½ w_i ; √(r − r_min)] − [√½ w_t ; 0]‖² − E is the same for all that are searched."""
    rows, queries = (IMAGES, TEXTS[:5]) if side == "images" else (TEXTS, IMAGES[:5])
    floor = point_floor(rows, "calibrated", side)
    points, asked = as_points(rows, "calibrated", side, floor), as_asked(queries, "calibrated")
    square = np.square(points[None].astype(float) - asked[:, None]).sum(2)
    energies = -2 * (queries.astype(float) @ rows.astype(float).T)
    assert np.ptp(square - energies, axis=1).max() < 1e-3


@pytest.mark.parametrize("side", SIDES)
def test_each_side_of_a_model_is_searched_by_its_energies(embedder: Embedder, side: Side) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    texts = ["a red circle", "a blue square", "a star above a ring"]
    e = embedder.embeddings(images, texts)
    by = embedder.search_energies_of(e, "calibrated")
    rows = joint_of(e, "calibrated", embedder.calibration)
    image, text = (searched(part.numpy(), "calibrated", side) for part in rows)
    energies = (by.images if side == "images" else by.texts).numpy()
    assert np.allclose(-2 * image @ text.T, energies, atol=1e-3, rtol=1e-3)


def test_rows_of_other_forms_are_points_as_they_are() -> None:
    assert searched(IMAGES, "cosine", "texts") is IMAGES
    assert point_floor(IMAGES, "cosine", "images") == 0
    assert np.array_equal(as_points(IMAGES, "cosine", "images", 0.0), IMAGES)
    assert np.array_equal(as_asked(IMAGES, "cosine"), IMAGES)
    assert np.array_equal(as_queries(IMAGES, "cosine"), IMAGES)
