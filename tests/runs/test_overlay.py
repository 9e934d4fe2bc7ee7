from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tijepa.errors import CheckpointError, DataError
from tijepa.runs.report.images import SCALE, colour_ramp, draw_overlay, write_overlay

GREY = Image.new("RGB", (64, 64), (100, 100, 100))


def planted(row: int, column: int) -> torch.Tensor:
    energy = torch.ones(4, 4)
    energy[row, column] = -1.0
    return energy


def test_the_lowest_cell_has_the_first_colour_and_the_highest_the_last() -> None:
    """Cells of 16 pixels; the centre of cell (1, 2) is (40, 24), half a pixel before pixel (40, 24)
    in both directions, so there the level is 1 - (1 - 1/32)^2 = .0615, colour 16 of 255 and
    opacity .65 - .5 x .0615 = .619; in the far corner it is 1, opacity .15; over grey 100."""
    sheet = np.asarray(draw_overlay(GREY, planted(1, 2))).astype(float)
    ramp = colour_ramp().astype(float)
    np.testing.assert_allclose(sheet[24, 40], 0.619 * ramp[16] + 0.381 * 100, atol=2)
    np.testing.assert_allclose(sheet[60, 4], 0.15 * ramp[-1] + 0.85 * 100, atol=1)


def test_the_lowest_cell_is_framed_in_white() -> None:
    """Cell (1, 2) reaches from pixel (32, 16) to (47, 31)."""
    sheet = np.asarray(draw_overlay(GREY, planted(1, 2)))
    white = (sheet[:64] == 255).all(axis=2)
    expected = np.zeros((64, 64), dtype=bool)
    expected[16, 32:48] = expected[31, 32:48] = expected[16:32, 32] = expected[16:32, 47] = True
    assert (white == expected).all()


def test_the_scale_runs_from_low_to_high_below_the_image() -> None:
    sheet = draw_overlay(GREY, planted(0, 0))
    assert sheet.size == (64, 64 + SCALE)
    bar = np.asarray(sheet)[64 + 8].astype(int)
    ramp = colour_ramp().astype(int)
    assert np.abs(bar[4] - ramp[0]).max() <= 8
    assert np.abs(bar[59] - ramp[-1]).max() <= 8
    assert (np.asarray(sheet)[64 + 13 :] < 128).any(), "the numbers"


def test_a_flat_map_marks_nothing() -> None:
    sheet = np.asarray(draw_overlay(GREY, torch.full((4, 4), 3.0)))[:64]
    assert (sheet == sheet[0, 0]).all()


def test_a_map_that_is_not_finite_is_refused() -> None:
    energy = planted(0, 0)
    energy[2, 2] = torch.inf
    with pytest.raises(DataError, match="not finite"):
        draw_overlay(GREY, energy)


def test_a_file_is_written_with_its_folders_or_refused_in_one_line(tmp_path: Path) -> None:
    write_overlay(tmp_path / "new" / "overlay.png", GREY, planted(0, 0))
    with Image.open(tmp_path / "new" / "overlay.png") as written:
        assert written.format == "PNG"
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        write_overlay(tmp_path / "file" / "overlay.png", GREY, planted(0, 0))
