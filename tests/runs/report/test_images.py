from __future__ import annotations

import base64
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tijepa.errors import DataError
from tijepa.io.page import thumbnail
from tijepa.runs.report.images import colour_ramp, draw_energies


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def brightness(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(float) @ np.array([0.2126, 0.7152, 0.0722])


def test_the_ramp_darkens_at_every_step() -> None:
    steps = brightness(colour_ramp(64))
    assert (np.diff(steps) < 0).all()
    assert steps[0] > 220
    assert steps[-1] < 40


def test_low_energies_are_light_and_lie_where_the_matrix_has_them() -> None:
    energy = torch.ones(6, 4)
    energy[2, 1] = 0.0
    pixels = brightness(decoded(draw_energies(energy, cell=3).matrix))
    assert pixels.shape == (18, 12)
    assert pixels[7, 4] > 200
    assert pixels[7, 4] > pixels[7, 1] + 100
    assert np.unique(pixels[:6]).size == 1


def test_the_ends_of_the_legend_are_the_lowest_and_the_nearly_highest_energy() -> None:
    drawn = draw_energies(torch.arange(101.0)[None] + 7.0)
    assert drawn.low == 7.0
    assert drawn.high == pytest.approx(106.0)  # the 0.99 quantile of 7 … 107
    assert brightness(decoded(drawn.legend))[0, 0] > 200


def test_energies_that_are_not_finite_are_grey() -> None:
    energy = torch.tensor([[0.0, math.nan], [math.inf, 1.0]])
    pixels = decoded(draw_energies(energy, cell=1).matrix)
    assert pixels[0, 1].tolist() == pixels[1, 0].tolist() == [140, 140, 140]
    assert pixels[0, 0].tolist() != pixels[1, 1].tolist()


def test_equal_energies_have_the_middle_colour() -> None:
    pixels = decoded(draw_energies(torch.ones(3, 3), cell=1).matrix)
    assert (pixels == colour_ramp()[128]).all()


def test_an_empty_matrix_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        draw_energies(torch.zeros(0, 0))


def test_a_thumbnail_keeps_proportions_and_small_images_their_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 600, 3), dtype=np.uint8)
    assert decoded(thumbnail(image, side=100)).shape == (50, 100, 3)
    assert decoded(thumbnail(image[:32, :32])).shape == (32, 32, 3)


def test_a_flat_image_is_kept_exactly() -> None:
    image = np.full((40, 40, 3), (12, 200, 99), dtype=np.uint8)
    assert (decoded(thumbnail(image)) == image).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_an_image_of_another_kind_is_an_error(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"give uint8 of shape \(height, width, 3\)"):
        thumbnail(image)
