"""Reliability of probabilities, by hand."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.evaluate.retrieval import match_energies, match_results, reliability, roc_auc
from tijepa.inference.match_probability import MatchProbability


def bools(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_shuffled_pairs_are_other_texts_spread_evenly() -> None:
    """Three pairs: both other texts of each image. Hundred: 20 of 99, each once, far apart."""
    energy = torch.arange(9.0).reshape(3, 3)
    found = match_energies(energy)
    assert found.matched.tolist() == [0.0, 4.0, 8.0]
    assert found.shuffled.tolist() == [[1.0, 2.0], [5.0, 3.0], [6.0, 7.0]]
    own = torch.arange(100.0)
    shifts = (match_energies((own[None] - own[:, None]) % 100).shuffled)[0]
    assert shifts.tolist() == sorted(set(shifts.tolist()))
    assert shifts.min() == 1
    assert len(shifts) == 20
    assert shifts.diff().min() >= 4
    assert shifts.max() <= 99


def test_reliability_by_hand() -> None:
    """Matched .85 and .85, shuffled .85 and .05; all four weigh ¼.

    Bin 8 holds ¾ of the weight, predicts .85 and is matched in ⅔; bin 0 holds ¼, predicts .05,
    matched 0. Error ¾ |.85 − ⅔| + ¼ · .05 = .15. Brier (.0225 + .0225 + .7225 + .0025)/4 = .1925.
    """
    found = reliability(
        torch.tensor([0.85, 0.85, 0.85, 0.05], dtype=torch.float64), bools(1, 1, 0, 0)
    )
    assert found.expected_calibration_error == pytest.approx(0.15)
    assert found.brier == pytest.approx(0.1925)
    assert len(found.bins) == 10
    first, *middle, ninth, last = found.bins
    assert astuple(ninth) == pytest.approx((0.8, 0.9, 0.75, 0.85, 2 / 3))
    assert astuple(first) == pytest.approx((0.0, 0.1, 0.25, 0.05, 0.0))
    for empty in (*middle, last):
        assert empty.share == 0.0
        assert math.isnan(empty.predicted)
        assert math.isnan(empty.matched)


def test_both_kinds_weigh_one_half() -> None:
    """One matched pair at .75, three shuffled at .75: the bin is matched in one half."""
    found = reliability(torch.full((4,), 0.75), bools(1, 0, 0, 0))
    assert found.bins[7].matched == pytest.approx(0.5)
    assert found.expected_calibration_error == pytest.approx(0.25)


def test_certainty_lies_in_the_outer_bins_and_a_coin_has_no_calibration_error() -> None:
    sure = reliability(torch.tensor([1.0, 0.0]), bools(1, 0))
    assert sure.expected_calibration_error == sure.brier == 0.0
    assert sure.bins[9].share == sure.bins[0].share == 0.5
    coin = reliability(torch.tensor([0.5, 0.5]), bools(1, 0))
    assert (coin.expected_calibration_error, coin.brier) == (0.0, 0.25)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=50).filter(
        lambda x: len({kind for _, kind in x}) == 2
    )
)
def test_shares_sum_to_one_and_errors_are_bounded(pairs: list[tuple[float, bool]]) -> None:
    p = torch.tensor([x for x, _ in pairs], dtype=torch.float64)
    found = reliability(p, torch.tensor([kind for _, kind in pairs]))
    assert sum(one.share for one in found.bins) == pytest.approx(1)
    assert 0 <= found.expected_calibration_error <= 1
    assert 0 <= found.brier <= 1
    for one in found.bins:
        if one.share > 0:
            assert one.low - 1e-9 <= one.predicted <= one.to + 1e-9


def test_area_under_the_curve_counts_ties_half() -> None:
    """Matched 0 and 2 against shuffled 1, 2, 3: 3 and ½ + 1 of 3 lie above, 4.5 of 6."""
    found = roc_auc(torch.tensor([0.0, 2.0]), torch.tensor([2.0, 1.0, 3.0]))
    assert found == pytest.approx(4.5 / 6)
    assert roc_auc(torch.zeros(3), torch.zeros(4)) == 0.5


def test_pairs_that_the_fit_saw_are_judged_by_a_fit_on_the_other_half() -> None:
    """Even images: matched 0, shuffled 9; odd ones: the other way round.

    The fit of each half is wrong for the other: even ones give a steep curve that calls every odd
    matched pair shuffled; odd ones give the prior. The stored curve, sure of nothing, is not used.
    """
    n = 8
    rows = torch.arange(n)[:, None]
    own = torch.eye(n, dtype=torch.bool)
    energy = torch.where(own == (rows % 2 == 0), 0.0, 9.0)
    stored = MatchProbability(0.0, 0.0)
    unseen = match_results(energy, stored, seen=False)
    assert unseen.brier == pytest.approx(0.25)
    assert unseen.fitted_on == "validation"
    seen = match_results(energy, stored, seen=True)
    assert seen.fitted_on == "the other half of the split"
    # even half: prior ½, so ¼. Odd half: targets 5/6 and 1/30 of the even fit, the wrong way round
    assert seen.brier == pytest.approx((0.25 + ((5 / 6) ** 2 + (29 / 30) ** 2) / 2) / 2, abs=1e-3)
    assert (seen.matched_pairs, seen.shuffled_pairs) == (8, 56)
    assert seen.roc_auc == unseen.roc_auc == pytest.approx(0.5)


def test_energies_that_are_not_finite_give_figures_that_are_not() -> None:
    found = match_results(torch.full((4, 4), torch.nan), MatchProbability(1.0, 0.0), seen=False)
    assert math.isnan(found.brier)
