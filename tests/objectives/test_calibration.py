"""The calibrated energy is −log p(y|x) + log p(y) wherever the Gaussians are the truth."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal

from tijepa.model.saving import load_tensors, save_tensors
from tijepa.objectives.calibration import Calibration, DirectionCalibration, fit_calibration
from tijepa.objectives.embeddings import Embeddings
from tijepa.objectives.match import MatchProbability


def random_pairs(count: int, width: int, seed: int = 0) -> Embeddings:
    """Correlated embeddings with imperfect predictions, float64."""
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(count, width, generator=generator, dtype=torch.float64)

    image, mix = noise(), torch.randn(width, width, generator=generator, dtype=torch.float64)
    text = image @ mix + 0.3 * noise() + 1.0
    return Embeddings(image, image @ mix + 0.2 * noise(), text, image + 0.4 * noise() - 2.0)


def test_one_dimension_by_hand() -> None:
    """Predictions ±2 of targets ±3: residuals ±1 with variance 1, targets with variance 9.

    E(2, 3) = 1²/2 − 3²/18 + ½ ln 1 − ½ ln 9 = −ln 3; E(2, −3) = 5²/2 − 3²/18 − ln 3 = 12 − ln 3.
    In one dimension shrinkage changes nothing. Both directions are given the same numbers.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(image=y, text_from_image=p, text=y, image_from_text=p)
    low, high = -math.log(3), 12 - math.log(3)
    expected = torch.tensor([[low, high], [high, low]])
    for shrinkage in (0.0, 0.5, 1.0):
        energy = fit_calibration(pairs, shrinkage).energy(pairs)
        torch.testing.assert_close(energy, expected, atol=1e-3, rtol=0)


def test_full_shrinkage_keeps_only_the_mean_variance() -> None:
    """Residuals (±1, ±√3) uncorrelated: variances 1 and 3, shrunk wholly to 2 and 2.

    Targets (±3, ±3): 9 and 9. For the pair p = 0, y = (3, 3): 18/4 − 18/18 + ln 2 − ln 9.
    """
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    y = 3 * signs
    p = y - signs * torch.tensor([1.0, math.sqrt(3.0)])
    direction = fit_calibration(Embeddings(y, p, y, p), 1.0).to_text
    energy = direction.energy(torch.zeros(1, 2), y[:1])
    expected = 4.5 - 1.0 + math.log(2) - math.log(9)
    assert energy.item() == pytest.approx(expected, abs=1e-3)


def test_a_linear_gaussian_model_gets_its_analytic_energy() -> None:
    """x ~ N(m, S), y = A x + b + noise N(0, R).

    The predictor of y is A x: it lacks the offset b, which the residuals' mean must supply. That
    of x is the posterior mean. −log p(y|x) + log p(y) = −log p(x|y) + log p(x), so both directions
    and their mean have one analytic value, here from the densities of torch.distributions.
    """
    generator = torch.Generator().manual_seed(0)
    f64 = {"dtype": torch.float64}
    a = torch.tensor([[1.0, 0.5, 0.0], [-0.3, 0.8, 0.2], [0.1, 0.0, 1.5]], **f64)
    b, m = torch.tensor([5.0, -2.0, 1.0], **f64), torch.tensor([1.0, 0.0, -3.0], **f64)
    s = torch.diag(torch.tensor([1.0, 2.0, 0.5], **f64))
    r = torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.4, 0.0], [0.0, 0.0, 0.2]], **f64)
    marginal = MultivariateNormal(a @ m + b, a @ s @ a.T + r)
    gain = s @ a.T @ marginal.precision_matrix

    def sample(count: int) -> Embeddings:
        noise = torch.randn(2, count, 3, generator=generator, **f64)
        x = m + noise[0] @ torch.linalg.cholesky(s).T
        y = x @ a.T + b + noise[1] @ torch.linalg.cholesky(r).T
        return Embeddings(
            image=x,
            text_from_image=x @ a.T,
            text=y,
            image_from_text=m + (y - marginal.mean) @ gain.T,
        )

    fitted = fit_calibration(sample(100_000), shrinkage=0.0)
    few = sample(40)
    x, y = few.image, few.text
    predictive = MultivariateNormal((x @ a.T + b)[:, None, :], r).log_prob(y[None, :, :])
    analytic = marginal.log_prob(y)[None, :] - predictive
    torch.testing.assert_close(fitted.energy(few), analytic, atol=0.3, rtol=0.03)
    # the mean energy of true pairs is minus the mutual information
    many = sample(2000)
    matched = torch.stack([fitted.energy(many.images(slice(k, k + 1)))[0, k] for k in range(500)])
    information = (torch.logdet(marginal.covariance_matrix) - torch.logdet(r)) / 2
    assert float(matched.mean()) == pytest.approx(-float(information), abs=0.2)


@given(seed=st.integers(0, 200))
@settings(deadline=None, max_examples=15)
def test_invertible_linear_maps_of_the_target_change_nothing(seed: int) -> None:
    """Without shrinkage both Gaussians transform alike: quadratic forms and log|Σ_r|/|Σ_y| stay."""
    pairs = random_pairs(200, 3, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    orthogonal, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    turn = orthogonal @ torch.diag(torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))
    moved = replace(
        pairs,
        text=pairs.text @ turn + 4.0,
        text_from_image=pairs.text_from_image @ turn + 4.0,
    )
    torch.testing.assert_close(
        fit_calibration(moved, 0.0).energy(moved),
        fit_calibration(pairs, 0.0).energy(pairs),
        atol=1e-2,
        rtol=1e-2,
    )


def test_a_constant_offset_of_the_predictions_is_calibrated_away() -> None:
    pairs = random_pairs(300, 4)
    shifted = replace(pairs, text_from_image=pairs.text_from_image + 7.0)
    torch.testing.assert_close(
        fit_calibration(shifted, 0.3).energy(shifted),
        fit_calibration(pairs, 0.3).energy(pairs),
        atol=1e-2,
        rtol=1e-2,
    )


def test_matched_pairs_have_negative_and_lower_energy() -> None:
    pairs = random_pairs(200, 4)
    energy = fit_calibration(pairs, 0.5).energy(pairs)
    assert energy.diagonal().mean() < 0
    assert energy.diagonal().mean() < energy.mean() - 1


@st.composite
def calibrated(draw: st.DrawFn) -> tuple[Calibration, Embeddings]:
    """A calibration of random pairs, and other items than those it was fitted on."""
    width, seed = draw(st.integers(1, 12)), draw(st.integers(0, 10_000))
    shrinkage = draw(st.sampled_from([0.02, 0.1, 0.5, 1.0]))
    ridge = draw(st.sampled_from([None, 0.05, 1.0]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    offset, scale = draw(st.sampled_from([0.0, 30.0])), draw(st.sampled_from([0.01, 1.0, 50.0]))

    def cast(e: Embeddings) -> Embeddings:
        return Embeddings(*(((x + offset) * scale).to(dtype) for x in e.__dict__.values()))

    fitted = fit_calibration(cast(random_pairs(80, width, seed)), shrinkage, ridge)
    few = cast(random_pairs(12, width, seed + 1))
    return fitted, few.texts(slice(0, 9))


@given(calibrated())
@settings(deadline=None, max_examples=60)
def test_joint_embeddings_have_the_calibrated_energy_as_inner_product(
    drawn: tuple[Calibration, Embeddings],
) -> None:
    """−⟨image, text⟩ = E, within 1e-4 of the larger of E and the terms that it is a sum of.

    The energy itself is taken here from the densities of torch.distributions, whose covariances
    are W⁻¹ W⁻ᵀ, so that neither side knows of the other.
    """
    fitted, e = drawn
    wide = Embeddings(*(x.double() for x in e.__dict__.values()))
    expected = (
        from_densities(fitted.to_text, wide.text_from_image, wide.text)
        + from_densities(fitted.to_image, wide.image_from_text, wide.image).T
    ) / 2
    image, text = fitted.joint(e)
    width = e.image.shape[1]
    assert image.shape == (12, 2 * width + 4)
    assert text.shape == (9, 2 * width + 4)
    assert image.dtype == text.dtype == e.image.dtype
    terms = (image.abs() @ text.abs().T).double()
    for energy in (-image @ text.T, fitted.energy(e)):
        error = (energy.double() - expected).abs()
        assert bool((error <= 1e-4 * torch.maximum(expected.abs(), 0.01 * terms)).all())


@given(calibrated())
@settings(deadline=None, max_examples=60)
def test_each_half_of_the_rows_has_half_of_the_energy_that_it_is_searched_by(
    drawn: tuple[Calibration, Embeddings],
) -> None:
    """First halves: −log p(t|i) + log p(t), which finds images; second halves the other way.

    In float64, and without the last two numbers a half is a point: the half of the squared distance
    is half the energy up to a constant of the query.
    """
    fitted, e = drawn
    wide = Embeddings(*(x.double() for x in e.__dict__.values()))
    image, text = fitted.joint(wide)
    half = e.image.shape[1] + 2
    for part, expected, queries in (
        (slice(0, half), from_densities(fitted.to_text, wide.text_from_image, wide.text), 0),
        (slice(half, None), from_densities(fitted.to_image, wide.image_from_text, wide.image).T, 1),
    ):
        rows, asked = image[:, part], text[:, part]
        slack = 1e-6 * (rows.abs() @ asked.abs().T).max()
        assert bool(((-2 * rows @ asked.T - expected).abs() <= slack).all())
        square = torch.cdist(rows[:, :-2], asked[:, :-2]).square()
        constant = square - expected
        ends = constant.amax(queries) - constant.amin(queries)
        assert bool((ends <= slack).all())
    by = fitted.search_energies(wide)
    torch.testing.assert_close((by.images + by.texts) / 2, fitted.energy(wide))


@given(calibrated())
@settings(deadline=None, max_examples=60)
def test_the_order_of_neighbours_by_inner_product_is_that_by_calibrated_energy(
    drawn: tuple[Calibration, Embeddings],
) -> None:
    """In float64, both ways: wherever two energies differ by more than rounding."""
    fitted, e = drawn
    wide = Embeddings(*(x.double() for x in e.__dict__.values()))
    image, text = fitted.joint(wide)
    for energy, product in (
        (fitted.energy(wide), image @ text.T),
        (fitted.energy(wide).T, text @ image.T),
    ):
        order = product.argsort(dim=1, descending=True)
        ascending = energy.gather(1, order)
        slack = 1e-9 * (image.abs() @ text.abs().T).max()
        assert bool((ascending.diff(dim=1) >= -slack).all())
        best = energy.gather(1, order[:, :1])[:, 0]
        assert bool((best <= energy.min(dim=1).values + slack).all())


def from_densities(direction: DirectionCalibration, predicted: Tensor, target: Tensor) -> Tensor:
    def gaussian(mean: Tensor, whiten: Tensor) -> MultivariateNormal:
        return MultivariateNormal(mean, precision_matrix=whiten.T @ whiten, validate_args=False)

    regression = torch.linalg.solve(direction.residual_whiten, direction.predicted_whiten)
    moved = (predicted - direction.predicted_mean) @ regression.T
    about = (moved + direction.target_mean)[:, None, :]
    predictive = gaussian(about, direction.residual_whiten).log_prob(target[None])
    marginal = gaussian(direction.target_mean, direction.target_whiten).log_prob(target)
    return marginal[None] - predictive


def test_regressed_it_is_the_mutual_information_of_one_gaussian_of_prediction_and_target() -> None:
    """−log p(p, y) + log p(p) + log p(y), whatever linear map the predictions went through."""
    pairs = random_pairs(400, 4)
    turn = torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    turned = replace(pairs, text_from_image=pairs.text_from_image @ turn - 2.0)
    p, y = pairs.text_from_image, pairs.text
    both = torch.cat([p, y], dim=1)
    covariance = torch.cov(both.T, correction=0)
    joint, of_p, of_y = (
        MultivariateNormal(both[:, part].mean(dim=0), covariance[part, part])
        for part in (slice(0, 8), slice(0, 4), slice(4, 8))
    )
    expected = of_p.log_prob(p) + of_y.log_prob(y) - joint.log_prob(both)
    for e in (pairs, turned):
        fitted = fit_calibration(e, 0.0, ridge=0.0).to_text
        energy = fitted.energy(e.text_from_image, e.text).diagonal()
        torch.testing.assert_close(energy, expected, atol=1e-2, rtol=1e-3)


def test_a_wholly_shrunk_ridge_regresses_by_covariance_alone() -> None:
    """p = (2, −2), y = (3, −3): Σ_p = 4, Σ_py = 6, so M = 6/4 in one dimension whatever the ridge.

    q = 1.5 p = y: no residual is left, and the energy of a true pair is far below that without.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(image=y, text_from_image=p, text=y, image_from_text=p)
    direction = fit_calibration(pairs, 0.0, ridge=1.0).to_text
    regression = torch.linalg.solve(direction.residual_whiten, direction.predicted_whiten)
    assert regression.item() == pytest.approx(1.5, rel=1e-5)
    assert fit_calibration(pairs, 0.0, ridge=1.0).energy(pairs)[0, 0] < -5


def test_one_dimension_joint_embeddings_by_hand() -> None:
    """The pairs of the first test: σ_r = 1, σ_y = 3, means 0, o = −ln 3, both directions alike.

    Image with y = 3 and prediction 2: u = 2 gives [2 ; −2 ; 1]; v = 3 with b = 3²/18 = ½ gives
    [3 ; 1 ; −(9/2 − ½ − ln 3)] = [3 ; 1 ; ln 3 − 4]. Its text likewise, in the other order. Each
    half has the product 6 − 2 + ln 3 − 4 = ln 3, halved by √½ · √½: together ln 3, minus E.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(image=y, text_from_image=p, text=y, image_from_text=p)
    image, text = fit_calibration(pairs, 0.0).joint(pairs)
    predicted, target = [2.0, -2.0, 1.0], [3.0, 1.0, math.log(3) - 4]
    half = math.sqrt(0.5)
    expected = half * torch.tensor([*predicted, *target])
    torch.testing.assert_close(image[0], expected, atol=1e-3, rtol=0)
    expected = half * torch.tensor([*target, *predicted])
    torch.testing.assert_close(text[0], expected, atol=1e-3, rtol=0)
    assert float(image[0] @ text[0]) == pytest.approx(math.log(3), abs=1e-3)


def test_a_common_offset_far_from_zero_costs_no_precision() -> None:
    """float32 embeddings a thousand units from the origin."""
    pairs = random_pairs(300, 6)
    far = Embeddings(*((x + 1000.0).float() for x in pairs.__dict__.values()))
    same = Embeddings(*(x.double() - 1000.0 for x in far.__dict__.values()))
    fitted = fit_calibration(far, 0.3)
    near = replace(fitted, to_text=moved(fitted.to_text), to_image=moved(fitted.to_image))
    expected = near.energy(same)
    torch.testing.assert_close(fitted.energy(far).double(), expected, atol=1e-4, rtol=1e-5)
    image, text = fitted.joint(far)
    torch.testing.assert_close((-image @ text.T).double(), expected, atol=1e-2, rtol=1e-4)


def moved(direction: DirectionCalibration) -> DirectionCalibration:
    return replace(
        direction,
        target_mean=direction.target_mean - 1000.0,
        predicted_mean=direction.predicted_mean - 1000.0,
    )


def test_state_survives_a_file_bit_for_bit(tmp_path: Path) -> None:
    pairs = random_pairs(50, 4)
    single = Embeddings(*(getattr(pairs, n).float() for n in pairs.__dataclass_fields__))
    plain = fit_calibration(single, 0.37, 0.03)
    fitted = replace(
        plain,
        match=MatchProbability(0.125, -3.5),
        to_text=replace(plain.to_text, match=MatchProbability(0.25, 1.5)),
    )
    save_tensors(fitted.state(), tmp_path / "calibration.safetensors")
    read = Calibration.from_state(load_tensors(tmp_path / "calibration.safetensors"))
    assert (read.shrinkage, read.ridge) == (0.37, 0.03)
    assert read.match == MatchProbability(0.125, -3.5)
    assert read.to_text.match == MatchProbability(0.25, 1.5)
    assert read.to_image.match is None
    assert read.state().keys() == fitted.state().keys()
    assert all(torch.equal(read.state()[n], value) for n, value in fitted.state().items())
    assert torch.equal(read.energy(single), fitted.energy(single))


def test_a_state_without_probability_of_match_has_none() -> None:
    fitted = fit_calibration(random_pairs(50, 4), 0.37)
    assert not any("match" in name for name in fitted.state())
    assert Calibration.from_state(fitted.state()).match is None
    assert Calibration.from_state(fitted.state()).ridge is None


def test_a_state_in_float32_gives_the_same_energy_up_to_rounding() -> None:
    pairs = random_pairs(50, 4)
    fitted = fit_calibration(pairs, 0.37)
    read = Calibration.from_state({name: value.float() for name, value in fitted.state().items()})
    torch.testing.assert_close(read.energy(pairs), fitted.energy(pairs), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e-4, 1e3])
@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_collapsed_model_gets_finite_energies(
    value: float, shrinkage: float, noise: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [value + noise * torch.randn(20, 4, generator=generator) for _ in range(4)]
    pairs = Embeddings(*parts)
    assert torch.isfinite(fit_calibration(pairs, shrinkage).energy(pairs)).all()


def test_fewer_pairs_than_dimensions_are_enough_with_shrinkage() -> None:
    pairs = random_pairs(5, 16)
    assert torch.isfinite(fit_calibration(pairs, 0.5).energy(pairs)).all()


def test_unpaired_embeddings_cannot_be_fitted() -> None:
    pairs = random_pairs(5, 3)
    with pytest.raises(AssertionError):
        fit_calibration(pairs.images(slice(0, 4)), 0.5)
