"""Which part of joint embeddings is searched, and that its distances are energies."""

from __future__ import annotations

import numpy as np
import pytest
from tests.search.rows import calibrated_rows

from tijepa import Embedder
from tijepa.search.points import as_points, as_queries, searched
from tijepa.search.shelf import SIDES, Side

IMAGES, TEXTS = calibrated_rows(300, 60)


def test_squared_distances_of_points_are_energies_up_to_a_constant_of_the_query() -> None:
    """‖√½ u − √½ v‖² − E is the same for all images, to float32's precision."""
    points, asked = as_points(IMAGES, "calibrated"), as_points(TEXTS[:5], "calibrated")
    square = np.square(points[None].astype(float) - asked[:, None]).sum(2)
    energies = -2 * (TEXTS[:5].astype(float) @ IMAGES.astype(float).T)
    assert np.ptp(square - energies, axis=1).max() < 1e-3


def test_rows_ask_for_each_other_by_the_distance_of_their_points() -> None:
    """u asks as v would: ‖u − u'‖² up to a constant of the one that asks."""
    points, asked = as_points(IMAGES, "calibrated"), as_queries(IMAGES[:5], "calibrated")
    square = np.square(points[None].astype(float) - points[:5, None]).sum(2)
    energies = -2 * (asked.astype(float) @ IMAGES.astype(float).T)
    assert np.ptp(square - energies, axis=1).max() < 1e-3


@pytest.mark.parametrize("side", SIDES)
def test_each_side_of_a_model_is_searched_by_its_energies(embedder: Embedder, side: Side) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    texts = ["a red circle", "a blue square", "a star above a ring"]
    e = embedder.embeddings(pictures, texts)
    by = embedder.search_energies_of(e, "calibrated")
    rows = embedder.joint_of(e, "calibrated")
    image, text = (searched(part.numpy(), "calibrated", side) for part in rows)
    energies = (by.images if side == "images" else by.texts).numpy()
    assert np.allclose(-2 * image @ text.T, energies, atol=1e-3, rtol=1e-3)


def test_rows_of_other_forms_are_points_as_they_are() -> None:
    assert searched(IMAGES, "cosine", "texts") is IMAGES
    assert np.array_equal(as_points(IMAGES, "cosine"), IMAGES)
    assert np.array_equal(as_queries(IMAGES, "cosine"), IMAGES)
