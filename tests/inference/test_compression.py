"""Shorter rows of the same inner products."""

from __future__ import annotations

import pytest
import torch

from tijepa.inference.calibration import Calibration
from tijepa.inference.calibration_selection import select_calibration
from tijepa.inference.compression import LowRank, fit_low_rank
from tijepa.inference.embeddings import Embeddings


def random_rows(seed: int, count: int, width: int, scale: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = scale ** torch.arange(width, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) * sizes


def test_one_number_keeps_the_dimension_that_matters_most() -> None:
    """Rows (±2, 0) and (0, ±1) of both modalities alike: C = diag(2, ½), so S = (2, ½).

    One number keeps the first dimension: 2 · 2 = 4 stays 4, and 1 · 1 = 1 becomes 0.
    """
    rows = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]], dtype=torch.float64)
    low = fit_low_rank(rows, rows, torch.zeros(1, dtype=torch.float64), 1)
    products = low.of("image", rows) @ low.of("text", rows).T
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[:2, :2] = torch.tensor([[4.0, -4], [-4, 4]])
    torch.testing.assert_close(products, expected)


def test_all_numbers_keep_every_product() -> None:
    x, y = random_rows(0, 50, 6, 0.7), random_rows(1, 60, 6, 1.3)
    low = fit_low_rank(x, y, x.new_zeros(1), 6)
    torch.testing.assert_close(low.of("image", x) @ low.of("text", y).T, x @ y.T)


def test_what_is_lost_is_the_tail_of_the_spectrum() -> None:
    """The mean square over all pairs of training items is Σ_{k>r} S_k² exactly."""
    x, y = random_rows(2, 200, 8, 0.6), random_rows(3, 300, 8, 0.8)

    def root(rows: torch.Tensor) -> torch.Tensor:
        values, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
        return (axes * values.sqrt()) @ axes.T

    spectrum = torch.linalg.svdvals(root(x) @ root(y))
    for rank in (1, 3, 7):
        low = fit_low_rank(x, y, x.new_zeros(1), rank)
        error = low.of("image", x) @ low.of("text", y).T - x @ y.T
        torch.testing.assert_close(error.square().mean(), spectrum[rank:].square().sum())


def test_directions_without_variance_are_left_out() -> None:
    x = random_rows(4, 30, 5, 1.0)
    x[:, 3] = 0
    low = fit_low_rank(x, x, x.new_zeros(1), 4)
    assert bool(torch.isfinite(low.image).all())
    torch.testing.assert_close(low.of("image", x) @ low.of("text", x).T, x @ x.T)


def correlated(seed: int) -> Embeddings:
    """400 pairs that share a signal of 12 dimensions of falling size, predictions and all."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 0.8 ** torch.arange(12)

    def noisy(signal: torch.Tensor, size: float) -> torch.Tensor:
        return signal + size * torch.randn(signal.shape, generator=generator)

    signal = torch.randn(400, 12, generator=generator) * sizes
    image, text = noisy(signal, 0.2), noisy(signal, 0.3)
    return Embeddings(
        image=image,
        text_from_image=noisy(image, 0.1),
        text=text,
        image_from_text=noisy(text, 0.1),
        image_pooled=noisy(image, 0.1),
        text_pooled=noisy(text, 0.1),
    )


def compressed(numbers: int) -> tuple[Calibration, Calibration, Embeddings]:
    """A calibration of both experts without and with shorter rows, and pairs it has not seen."""
    pairs, held_out = correlated(seed=0), correlated(seed=1)
    full = select_calibration(pairs, held_out)
    return full, full.compressed(pairs, numbers), held_out


def test_rows_that_are_short_already_stay_as_they_are() -> None:
    full, same, held_out = compressed(10_000)
    assert same.compression is None
    rows = full.rows("image", held_out.of_images)
    assert torch.equal(same.rows("image", held_out.of_images), rows)


def test_compressed_rows_have_nearly_the_energies_of_both_searches_and_of_the_pair() -> None:
    full, short, held_out = compressed(28)
    image = short.rows("image", held_out.of_images)
    text = short.rows("text", held_out.of_texts)
    assert image.shape[1] == text.shape[1] == 28
    assert image.shape[1] < full.rows("image", held_out.of_images).shape[1]
    energies = full.search_energies(held_out)
    for part, energy in ((slice(0, 14), energies.images), (slice(14, 28), energies.texts)):
        found = -2 * image[:, part] @ text[:, part].T
        left = (found - energy).square().mean() / energy.var()
        assert float(left) < 0.05
    pair = -image @ text.T
    assert float((pair - energies.pair).square().mean() / energies.pair.var()) < 0.05
    assert short.search_energies(held_out).images.equal(energies.images)  # exact all the same


def test_own_terms_of_what_is_searched_lie_around_zero() -> None:
    """So half precision keeps them: they are moved to what asks, which is not stored."""
    _, short, _ = compressed(28)
    pairs = correlated(seed=0)
    image = short.rows("image", pairs.of_images)
    text = short.rows("text", pairs.of_texts)
    assert float(image[:, 12].mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(text[:, 27].mean()) == pytest.approx(0.0, abs=1e-4)


def test_a_saved_calibration_keeps_its_short_rows() -> None:
    _, short, held_out = compressed(28)
    again = Calibration.from_state(short.state())
    assert torch.equal(again.rows("text", held_out.of_texts), short.rows("text", held_out.of_texts))
    assert isinstance(again.compression and again.compression.images, LowRank)
