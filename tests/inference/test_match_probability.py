"""σ(intercept − slope · E), fitted by logistic regression, moved by the prior's log odds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tijepa.errors import ConfigError
from tijepa.inference.match_probability import MatchProbability, fit_match_probability

ENERGIES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30)


def test_probability_by_hand() -> None:
    """Slope 2, intercept 1: at E = ½ the logit is 0; at E = 0 it is 1; at −∞ the pair is sure."""
    match = MatchProbability(slope=2.0, intercept=1.0)
    energy = torch.tensor([0.5, 0.0, -1e9, 1e9])
    expected = torch.tensor([0.5, 1 / (1 + math.exp(-1)), 1.0, 0.0])
    torch.testing.assert_close(match.probability(energy), expected)


@given(
    slope=st.floats(0, 3),
    intercept=st.floats(-5, 5),
    energy=st.floats(-3, 3),
    prior=st.floats(1e-3, 1 - 1e-3),
)
def test_a_prior_adds_its_log_odds(
    slope: float, intercept: float, energy: float, prior: float
) -> None:
    """At log odds of 21 at most: the logit of 1 − 10⁻⁹ is right to 10⁻⁷ in float64."""
    match = MatchProbability(slope, intercept)
    e = torch.tensor([energy], dtype=torch.float64)
    moved = match.probability(e, prior).logit() - match.probability(e).logit()
    assert float(moved) == pytest.approx(math.log(prior / (1 - prior)), abs=1e-6)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.5, 1.5, math.nan])
def test_a_prior_that_leaves_nothing_open_is_an_error(prior: float) -> None:
    with pytest.raises(ConfigError, match="it must lie between 0 and 1, both excluded"):
        MatchProbability(1.0, 0.0).probability(torch.zeros(1), prior)


def test_energies_of_two_values_give_the_shares_of_each() -> None:
    """300 of 400 matched pairs have energy 0 and 100 energy 1; of 400 shuffled, 100 and 300.

    At E = 0 three of four are matched: logit ln 3; at E = 1 it is −ln 3. Two parameters reach both
    exactly: intercept ln 3, slope 2 ln 3, up to Platt's targets, which differ by 1/402 from 0, 1.
    """
    matched = torch.tensor([0.0] * 300 + [1.0] * 100)
    shuffled = torch.tensor([0.0] * 100 + [1.0] * 300)
    match = fit_match_probability(matched, shuffled)
    assert match.intercept == pytest.approx(math.log(3), abs=0.02)
    assert match.slope == pytest.approx(2 * math.log(3), abs=0.04)


def test_kinds_weigh_the_same_whatever_their_number() -> None:
    """The example before, with the shuffled pairs ten times over."""
    matched = torch.tensor([0.0] * 300 + [1.0] * 100)
    shuffled = torch.tensor([0.0] * 1000 + [1.0] * 3000)
    match = fit_match_probability(matched, shuffled)
    assert match.intercept == pytest.approx(math.log(3), abs=0.02)


def test_two_gaussians_give_their_analytic_curve() -> None:
    """Matched N(−1, 1), shuffled N(2, 1): log ratio = ((E − 2)² − (E + 1)²)/2 = 1.5 − 3 E."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 40_000, generator=generator, dtype=torch.float64)
    match = fit_match_probability(noise[0] - 1, noise[1] + 2)
    assert match.intercept == pytest.approx(1.5, abs=0.1)
    assert match.slope == pytest.approx(3.0, abs=0.15)


def test_kinds_that_do_not_overlap_give_a_finite_curve() -> None:
    """Two parameters reach Platt's targets exactly: 6/7 for five matched, 1/7 for five shuffled."""
    match = fit_match_probability(torch.full((5,), -1.0), torch.full((5,), 1.0))
    assert match.intercept == pytest.approx(0.0, abs=1e-9)
    assert match.slope == pytest.approx(math.log(6), rel=1e-6)


@pytest.mark.parametrize(
    ("matched", "shuffled"), [([1.0, 2.0], [0.0, 1.0]), ([1.0, 1.0], [1.0, 1.0]), ([0.0], [0.0])]
)
def test_energies_that_say_nothing_give_the_prior(
    matched: list[float], shuffled: list[float]
) -> None:
    match = fit_match_probability(torch.tensor(matched), torch.tensor(shuffled))
    assert match == MatchProbability(0.0, 0.0)
    assert float(match.probability(torch.tensor([7.0]), 0.2)) == pytest.approx(0.2)


@given(matched=ENERGIES, shuffled=ENERGIES)
def test_probabilities_lie_in_0_to_1_and_never_rise_with_energy(
    matched: list[float], shuffled: list[float]
) -> None:
    match = fit_match_probability(torch.tensor(matched), torch.tensor(shuffled))
    assert math.isfinite(match.slope)
    assert math.isfinite(match.intercept)
    assert match.slope >= 0
    ascending = torch.tensor([*matched, *shuffled, -1e6, 1e6]).sort().values
    probability = match.probability(ascending)
    assert bool(((probability >= 0) & (probability <= 1)).all())
    assert bool((probability.diff() <= 0).all())


@given(matched=ENERGIES, shuffled=ENERGIES, factor=st.floats(0.1, 10), shift=st.floats(-100, 100))
def test_the_unit_and_zero_of_energy_do_not_matter(
    matched: list[float], shuffled: list[float], factor: float, shift: float
) -> None:
    a, b = (torch.tensor(x, dtype=torch.float64) for x in (matched, shuffled))
    spread = float(torch.cat([a, b]).std(correction=0))
    if spread < 1e-3:  # rounding of the shift decides then
        return
    plain = fit_match_probability(a, b).probability(a)
    moved = fit_match_probability(a * factor + shift, b * factor + shift)
    torch.testing.assert_close(moved.probability(a * factor + shift), plain, atol=1e-4, rtol=0)


def test_no_pairs_cannot_be_fitted() -> None:
    with pytest.raises(AssertionError, match="no shuffled pairs"):
        fit_match_probability(torch.zeros(1), torch.zeros(0))
