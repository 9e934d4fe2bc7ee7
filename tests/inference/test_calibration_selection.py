"""Shrinkage by the cross-entropy of finding held-out partners."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tijepa.inference.calibration_selection import GRID, matching_cross_entropy, select_calibration
from tijepa.inference.embeddings import Embeddings, SearchEnergies
from tijepa.inference.moments import fit_calibration

PLAIN = tuple((s, ridge) for s, ridge in GRID if ridge is None)


def cost(images: torch.Tensor, texts: torch.Tensor | None = None) -> float:
    """Of one energy for both ways, or of one for each."""
    return matching_cross_entropy(SearchEnergies(images, images if texts is None else texts))


def test_an_energy_that_says_nothing_costs_log_n() -> None:
    assert cost(torch.full((7, 7), 3.0)) == pytest.approx(math.log(7))


def test_a_sure_energy_costs_nothing_and_a_wrong_one_no_more_than_the_hottest() -> None:
    """Own pairs at −10⁵: certain at any temperature up to the hottest, T = 1000.

    Own pairs 1 above n − 1 = 2 others, at T = 1000: ln(e^−0.001 + 2) + 0.001 = 1.09928 and not
    much less than ln 3 = 1.09861.
    """
    eye = torch.eye(3)
    assert cost(-1e5 * eye) == pytest.approx(0.0, abs=1e-12)
    expected = math.log(math.exp(-0.001) + 2) + 0.001
    assert cost(eye) == pytest.approx(expected, abs=2e-5)


def test_the_temperature_suits_the_energy() -> None:
    """Matched pairs of 0 and 1 against 1: one factor of all energies is chosen for the pairs.

    With two items the cost is the mean of softplus(−k g) over the gaps g between the wrong and the
    own partner, 3 and −1 in the rows, 2 and 0 in the columns. No k of a fine grid is below.
    """
    energy = torch.tensor([[0.0, 3.0], [2.0, 3.0]], dtype=torch.float64)
    own = torch.tensor([3.0, -1.0, 2.0, 0.0], dtype=torch.float64)  # gaps of both rows and columns
    fine = [
        float(torch.nn.functional.softplus(-k * own).mean())
        for k in torch.logspace(-3, 1, 400, dtype=torch.float64)
    ]
    assert cost(energy) == pytest.approx(min(fine), abs=1e-4)
    assert cost(energy * 3) == pytest.approx(min(fine), abs=1e-4)


def test_each_way_is_judged_by_the_energies_it_searches_by() -> None:
    """A text finds its image among the rows of one matrix, an image its text among the other's
    columns: with constants of the queries, which change no order, both are certain."""
    sure, constants = -1e5 * torch.eye(3), torch.tensor([0.0, 7e5, -3e5])
    assert cost(sure + constants, sure + constants[:, None]) == pytest.approx(0.0, abs=1e-12)
    assert cost(sure + constants[:, None], sure + constants) > 1


def pairs(count: int, noise: torch.Tensor, seed: int) -> Embeddings:
    """Targets of unit variance, predictions off by Gaussian noise of given std per direction."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, len(noise))
    image, text = (torch.randn(shape, generator=generator) for _ in range(2))
    return Embeddings(
        image=image,
        text_from_image=text + noise * torch.randn(shape, generator=generator),
        text=text,
        image_from_text=image + noise * torch.randn(shape, generator=generator),
    )


def test_many_pairs_of_uneven_noise_want_little_shrinkage_and_few_pairs_much() -> None:
    """Half of 16 directions are predicted well and half badly.

    From 4,000 pairs both are known, and shrinkage would blur the difference. From 18 pairs the
    covariance of 16 directions is mostly chance.
    """
    noise = torch.tensor([0.3] * 8 + [3.0] * 8)
    held_out = pairs(200, noise, 1)
    assert select_calibration(pairs(4000, noise, 0), held_out, grid=PLAIN).heads.shrinkage <= 0.05
    even, unseen = torch.ones(16), pairs(200, torch.ones(16), 1)
    assert select_calibration(pairs(18, even, 0), unseen, grid=PLAIN).heads.shrinkage >= 0.35


def test_the_choice_is_the_best_of_the_grid_and_fitted_on_the_training_pairs() -> None:
    noise = torch.linspace(0.2, 2.0, 8)
    training, held_out = pairs(60, noise, 2), pairs(100, noise, 3)
    chosen = select_calibration(training, held_out)
    fitted = {(s, ridge): fit_calibration(training, s, ridge) for s, ridge in GRID}
    costs = {
        key: matching_cross_entropy(one.search_energies(held_out)) for key, one in fitted.items()
    }
    assert costs[chosen.heads.shrinkage, chosen.heads.ridge] == min(costs.values())
    expected = fit_calibration(training, chosen.heads.shrinkage, chosen.heads.ridge).state()
    assert all(torch.equal(chosen.state()[name], value) for name, value in expected.items())


def test_a_predictor_that_lies_askew_is_regressed_and_a_good_one_from_few_pairs_is_not() -> None:
    """Predictions in the order of other dimensions say all about the targets, once regressed.

    As they are, they find every second partner, by the covariance of what they miss. Good
    predictions of 16 dimensions gain nothing by a regression on 18 pairs, whose residuals are
    almost 0 by chance.
    """
    noise = torch.full((16,), 0.3)

    def askew(count: int, seed: int) -> Embeddings:
        e = pairs(count, noise, seed)
        return replace(
            e,
            text_from_image=e.text_from_image.roll(1, dims=1),
            image_from_text=e.image_from_text.roll(3, dims=1),
        )

    unseen = askew(200, 1)
    chosen = select_calibration(askew(4000, 0), unseen)
    assert chosen.heads.ridge is not None
    own = chosen.energy(unseen).argmin(dim=1)
    assert (own == torch.arange(200)).float().mean() > 0.99
    plain = select_calibration(askew(4000, 0), unseen, grid=PLAIN).energy(unseen).argmin(dim=1)
    assert (plain == torch.arange(200)).float().mean() < 0.6
    assert select_calibration(pairs(18, noise, 0), pairs(200, noise, 1)).heads.ridge is None


def test_equal_costs_give_the_first_of_the_grid() -> None:
    """In one dimension shrinkage changes nothing."""
    one = pairs(30, torch.ones(1), 0)
    assert select_calibration(one, one, grid=((1.0, None), (0.5, None))).heads.shrinkage == 1.0
    assert select_calibration(one, one, grid=((0.2, None),)).heads.shrinkage == 0.2


@pytest.mark.parametrize("known", [True, False])
def test_pooled_tokens_that_know_the_partner_take_part_and_others_do_not(known: bool) -> None:
    """Heads that predict badly beside pooled tokens that say nearly all, or nothing."""
    noise = torch.full((8,), 1.5)

    def with_pooled(count: int, seed: int) -> Embeddings:
        e, generator = pairs(count, noise, seed), torch.Generator().manual_seed(seed + 50)
        image, text = (torch.randn(count, 8, generator=generator) for _ in range(2))
        return replace(e, image_pooled=image, text_pooled=image + 0.3 * text if known else text)

    held_out = with_pooled(200, 1)
    chosen = select_calibration(with_pooled(2000, 0), held_out)
    alone = select_calibration(pairs(2000, noise, 0), pairs(200, noise, 1))
    found = (chosen.search_energies(held_out).images.argmin(dim=0) == torch.arange(200)).float()
    if known:
        assert chosen.direct is not None
        assert found.mean() > 0.9
    else:
        assert chosen.direct is None
        assert all(torch.equal(chosen.state()[n], value) for n, value in alone.state().items())
