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

from tijepa.inference.calibration import Calibration, DirectionCalibration, Matches
from tijepa.inference.embeddings import Embeddings
from tijepa.inference.match_probability import MatchProbability
from tijepa.inference.moments import PairMoments, fit_calibration
from tijepa.model.saving import load_tensors, save_tensors


def rows_of(fitted: Calibration, e: Embeddings) -> tuple[torch.Tensor, torch.Tensor]:
    return fitted.rows("image", e.of_images), fitted.rows("text", e.of_texts)


def random_pairs(count: int, width: int, seed: int = 0, pooled: bool = False) -> Embeddings:
    """Correlated embeddings with imperfect predictions, float64.

    With `pooled` also tokens of one dimension more for images and two more for texts.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(count, width, generator=generator, dtype=torch.float64)

    image, mix = noise(), torch.randn(width, width, generator=generator, dtype=torch.float64)
    text = image @ mix + 0.3 * noise() + 1.0
    predicted = image @ mix + 0.2 * noise(), image + 0.4 * noise() - 2.0
    if not pooled:
        return Embeddings(image, predicted[0], text, predicted[1])
    more = [torch.cat([x, noise()[:, :1]], dim=1) for x in (image + noise(), text + noise())]
    more[1] = torch.cat([more[1] * 3.0, more[1][:, :1] + 1.0], dim=1)
    return Embeddings(image, predicted[0], text, predicted[1], *more)


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
    direction = fit_calibration(Embeddings(y, p, y, p), 1.0).heads.to_text
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
        pairs, text=pairs.text @ turn + 4.0, text_from_image=pairs.text_from_image @ turn + 4.0
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
    """A calibration of random pairs, with or without the direct expert, and other items."""
    width, seed = draw(st.integers(1, 12)), draw(st.integers(0, 10_000))
    shrinkage = draw(st.sampled_from([0.02, 0.1, 0.5, 1.0]))
    ridge = draw(st.sampled_from([None, 0.05, 1.0]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    offset, scale = draw(st.sampled_from([0.0, 30.0])), draw(st.sampled_from([0.01, 1.0, 50.0]))
    direct = draw(st.booleans())

    def cast(e: Embeddings) -> Embeddings:
        parts = (None if x is None else ((x + offset) * scale).to(dtype) for x in vars(e).values())
        return Embeddings(*parts)  # type: ignore[arg-type]

    pairs = cast(random_pairs(80, width, seed, direct))
    fitted = fit_calibration(pairs, shrinkage, ridge)
    if direct:
        moments = PairMoments.of_pooled(pairs)
        short = moments.shortened(moments.calibrated(shrinkage, ridge or 0.1), lost=0.05)
        fitted = replace(fitted, direct=short)
    few = cast(random_pairs(12, width, seed + 1, direct))
    return fitted, few.texts(slice(0, 9))


def double(e: Embeddings) -> Embeddings:
    parts = (None if x is None else x.double() for x in vars(e).values())
    return Embeddings(*parts)  # type: ignore[arg-type]


def by_densities(fitted: Calibration, e: Embeddings) -> tuple[Tensor, Tensor]:
    """The energies by which images and texts are found, from the densities of torch."""
    heads = (
        from_densities(fitted.heads.to_text, e.text_from_image, e.text)
        + from_densities(fitted.heads.to_image, e.image_from_text, e.image).T
    ) / 2
    if fitted.direct is None:
        return heads, heads
    assert e.image_pooled is not None
    assert e.text_pooled is not None
    images = from_densities(fitted.direct.to_text, e.image_pooled, e.text_pooled)
    texts = from_densities(fitted.direct.to_image, e.text_pooled, e.image_pooled).T
    return (heads + images) / 2, (heads + texts) / 2


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
    images, texts = by_densities(fitted, double(e))
    expected = (images + texts) / 2
    image, text = rows_of(fitted, e)
    assert image.shape[1] == text.shape[1]
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
    """In float64; the first half finds images, the second half texts."""
    fitted, e = drawn
    wide = double(e)
    image, text = rows_of(fitted, wide)
    half = image.shape[1] // 2
    by = fitted.search_energies(wide)
    for part, expected, energy in zip(
        (slice(0, half), slice(half, None)), by_densities(fitted, wide), by, strict=True
    ):
        rows, asked = image[:, part], text[:, part]
        slack = 1e-7 * (rows.abs() @ asked.abs().T).max()
        assert bool(((-2 * rows @ asked.T - expected).abs() <= slack).all())
        assert bool(((energy - expected).abs() <= slack).all())


def test_an_index_of_largest_inner_products_finds_the_lowest_energies_in_order() -> None:
    """Whole rows and pairs, first halves and images, second halves and texts."""
    pairs = random_pairs(300, 6, pooled=True)
    moments = PairMoments.of_pooled(pairs)
    direct = moments.shortened(moments.calibrated(0.1, 0.1), 1e-3)
    fitted = replace(fit_calibration(pairs, 0.1), direct=direct)
    image, text = rows_of(fitted, pairs)
    half, by = image.shape[1] // 2, fitted.search_energies(pairs)
    for part, energy in (
        (slice(None), fitted.energy(pairs)),
        (slice(0, half), by.images),
        (slice(half, None), by.texts),
    ):
        product = image[:, part] @ text[:, part].T
        for energies, products in ((energy, product), (energy.T, product.T)):
            order = products.argsort(dim=1, descending=True)
            assert torch.equal(order, energies.argsort(dim=1))


def from_densities(direction: DirectionCalibration, predicted: Tensor, target: Tensor) -> Tensor:
    """−log p(y | x) + log p(y) with the mean μ_y + W⁻¹ [u ; 0] for what is predicted."""

    def gaussian(mean: Tensor, whiten: Tensor) -> MultivariateNormal:
        return MultivariateNormal(mean, precision_matrix=whiten.T @ whiten, validate_args=False)

    u = (predicted - direction.predicted_mean) @ direction.predicted_whiten.T
    missing = len(direction.target_mean) - u.shape[1]
    moved = torch.linalg.solve(
        direction.residual_whiten, torch.nn.functional.pad(u, (0, missing)).T
    ).T
    about = (moved + direction.target_mean)[:, None, :]
    predictive = gaussian(about, direction.residual_whiten).log_prob(target[None])
    marginal = gaussian(direction.target_mean, direction.target_whiten).log_prob(target)
    return marginal[None] - predictive


@pytest.mark.parametrize("lost", [0.0, 1e-3, 0.3, 1.0])
def test_shortened_predictions_lose_at_most_that_share_of_their_variance(lost: float) -> None:
    """In another basis of the whitened targets the energy is the same; what is left out is little.

    Of 8 and 9 pooled dimensions 8 at most say anything; the last share leaves one of them.
    """
    pairs = random_pairs(400, 7, pooled=True)
    moments = PairMoments.of_pooled(pairs)
    whole = moments.calibrated(0.2, 0.1)
    short = moments.shortened(whole, lost)
    pooled = pairs.image_pooled, pairs.text_pooled
    kept = {len(short.to_text.predicted_whiten), len(short.to_image.predicted_whiten)}
    assert len(kept) == 1
    assert kept <= (set(range(1, 9)) if 0 < lost < 1 else {8} if lost == 0 else {1})
    for x, y, direction, before in (
        (*pooled, short.to_text, whole.to_text),
        (*pooled[::-1], short.to_image, whole.to_image),
    ):
        assert x is not None
        assert y is not None
        u, all_of_u = direction.of_prediction(x).w, before.of_prediction(x).w
        assert u.square().sum() >= (1 - lost - 1e-9) * all_of_u.square().sum()
        if lost == 0:
            torch.testing.assert_close(direction.energy(x, y), before.energy(x, y))


def test_units_of_pooled_dimensions_do_not_matter() -> None:
    pairs = random_pairs(200, 4, pooled=True)
    assert pairs.image_pooled is not None
    units = torch.logspace(-1.5, 1.5, pairs.image_pooled.shape[1], dtype=torch.float64)
    other = replace(pairs, image_pooled=pairs.image_pooled * units + 3.0)
    for shrinkage, ridge in ((0.1, 0.01), (0.65, 0.3)):
        ours, theirs = (
            replace(
                fit_calibration(e, 0.3),
                direct=PairMoments.of_pooled(e).calibrated(shrinkage, ridge),
            ).energy(e)
            for e in (pairs, other)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


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
        fitted = fit_calibration(e, 0.0, ridge=0.0).heads.to_text
        energy = fitted.energy(e.text_from_image, e.text).diagonal()
        torch.testing.assert_close(energy, expected, atol=1e-2, rtol=1e-3)


def test_a_wholly_shrunk_ridge_regresses_by_covariance_alone() -> None:
    """p = (2, −2), y = (3, −3): Σ_p = 4, Σ_py = 6, so M = 6/4 in one dimension whatever the ridge.

    q = 1.5 p = y: no residual is left, and the energy of a true pair is far below that without.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(image=y, text_from_image=p, text=y, image_from_text=p)
    direction = fit_calibration(pairs, 0.0, ridge=1.0).heads.to_text
    regression = torch.linalg.solve(direction.residual_whiten, direction.predicted_whiten)
    assert regression.item() == pytest.approx(1.5, rel=1e-5)
    assert fit_calibration(pairs, 0.0, ridge=1.0).energy(pairs)[0, 0] < -5


def test_one_dimension_joint_embeddings_by_hand() -> None:
    """The pairs of the first test: σ_r = 1, σ_y = 3, means 0, o = −ln 3, both directions alike.

    Image with y = 3 and prediction 2: u = 2, its own term ½ u² = 2; v = 3 with the own term
    ½ v² − b + o = 9/2 − 3²/18 − ln 3 = 4 − ln 3. Each half weighs both by ½: w = √½ (2, 3), the own
    term is a = 3 − ½ ln 3; all of it times √½. Its text likewise, in the other order.
    The product of the halves is ½ (½ (6 + 6) − 2 a) = ½ ln 3 each: together ln 3, minus the energy.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(image=y, text_from_image=p, text=y, image_from_text=p)
    image, text = rows_of(fit_calibration(pairs, 0.0), pairs)
    half, a = math.sqrt(0.5), 3 - math.log(3) / 2
    expected = half * torch.tensor([2 * half, 3 * half, -a, 1.0] * 2)
    torch.testing.assert_close(image[0], expected, atol=1e-3, rtol=0)
    expected = half * torch.tensor([3 * half, 2 * half, 1.0, -a] * 2)
    torch.testing.assert_close(text[0], expected, atol=1e-3, rtol=0)
    assert float(image[0] @ text[0]) == pytest.approx(math.log(3), abs=1e-3)


def test_both_experts_in_one_dimension_by_hand() -> None:
    """Pooled tokens 2, −2 of images and 3, −3 of texts, no ridge: M = 3/2 leaves no residual.

    With full shrinkage in one dimension nothing changes, and σ_r² is the floor, 1e-6 of the
    target's 9 and rounding: E of the own partner is below −6 each way, of the other one above
    10⁵. The pair's energy is the mean of the heads' (−ln 3) and that of both directions.
    """
    p, y = torch.tensor([[2.0], [-2.0]]), torch.tensor([[3.0], [-3.0]])
    pairs = Embeddings(y, p, y, p, image_pooled=p.double(), text_pooled=y.double())
    direct = PairMoments.of_pooled(pairs).calibrated(1.0, 0.0)
    fitted = replace(fit_calibration(pairs, 0.0), direct=direct)
    by, alone = fitted.search_energies(pairs), fit_calibration(pairs, 0.0).energy(pairs)
    both = direct.to_text.energy(p, y.double()), direct.to_image.energy(y, p.double()).T
    torch.testing.assert_close(by.images.double(), (alone.double() + both[0]) / 2)
    torch.testing.assert_close(by.texts.double(), (alone.double() + both[1]) / 2)
    torch.testing.assert_close(fitted.energy(pairs), (by.images + by.texts) / 2)
    for energy in both:
        assert float(energy.diagonal().max()) < -6
        assert float(energy[0, 1]) > 1e4


def test_a_common_offset_far_from_zero_costs_no_precision() -> None:
    """float32 embeddings a thousand units from the origin."""
    pairs = random_pairs(300, 6)
    names = ("image", "text_from_image", "text", "image_from_text")
    far = Embeddings(*((getattr(pairs, name) + 1000.0).float() for name in names))
    same = Embeddings(*(getattr(far, name).double() - 1000.0 for name in names))
    fitted = fit_calibration(far, 0.3)
    heads = fitted.heads
    near = replace(
        fitted, heads=heads._replace(to_text=moved(heads.to_text), to_image=moved(heads.to_image))
    )
    expected = near.energy(same)
    torch.testing.assert_close(fitted.energy(far).double(), expected, atol=1e-4, rtol=1e-5)
    image, text = rows_of(fitted, far)
    torch.testing.assert_close((-image @ text.T).double(), expected, atol=1e-2, rtol=1e-4)


def moved(direction: DirectionCalibration) -> DirectionCalibration:
    return replace(
        direction,
        target_mean=direction.target_mean - 1000.0,
        predicted_mean=direction.predicted_mean - 1000.0,
    )


def test_state_survives_a_file_bit_for_bit(tmp_path: Path) -> None:
    pairs = random_pairs(50, 4, pooled=True)
    matches = Matches(*(MatchProbability(k / 8, -3.5) for k in range(3)))
    fitted = replace(
        fit_calibration(pairs, 0.37, 0.03),
        direct=PairMoments.of_pooled(pairs).calibrated(0.2, 0.1),
        match=matches,
    )
    save_tensors(fitted.state(), tmp_path / "calibration.safetensors")
    read = Calibration.from_state(load_tensors(tmp_path / "calibration.safetensors"))
    assert (read.heads.shrinkage, read.heads.ridge) == (0.37, 0.03)
    assert read.direct is not None
    assert (read.direct.shrinkage, read.direct.ridge) == (0.2, 0.1)
    assert read.match == matches
    assert read.state().keys() == fitted.state().keys()
    assert all(torch.equal(read.state()[n], value) for n, value in fitted.state().items())
    assert torch.equal(read.energy(pairs), fitted.energy(pairs))


def test_a_state_without_probability_of_match_and_direct_expert_has_none() -> None:
    fitted = fit_calibration(random_pairs(50, 4), 0.37)
    assert all(name.startswith("heads.") for name in fitted.state())
    read = Calibration.from_state(fitted.state())
    assert (read.match, read.direct, read.heads.ridge) == (None, None, None)


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
    parts = [value + noise * torch.randn(20, 4, generator=generator) for _ in range(6)]
    pairs = Embeddings(*parts)
    moments = PairMoments.of_pooled(pairs)
    direct = moments.shortened(moments.calibrated(shrinkage, 0.01), 1e-3)
    fitted = replace(fit_calibration(pairs, shrinkage), direct=direct)
    assert torch.isfinite(fitted.energy(pairs)).all()


def test_fewer_pairs_than_dimensions_are_enough_with_shrinkage() -> None:
    pairs = random_pairs(5, 16)
    assert torch.isfinite(fit_calibration(pairs, 0.5).energy(pairs)).all()


def test_unpaired_embeddings_cannot_be_fitted() -> None:
    pairs = random_pairs(5, 3)
    with pytest.raises(AssertionError):
        fit_calibration(pairs.images(slice(0, 4)), 0.5)
