"""Word by word: what is hidden stays hidden, and the energy is that of the formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.inference.embedder import Embedder
from tijepa.inference.fine import (
    FineCalibration,
    FineScorer,
    Gaussian,
    encoded_image,
    fit_fine,
    foretold,
    hide_words,
    word_energies,
)
from tijepa.model.saving import ModelCard
from tijepa.model.text_image_model import TextImageModel

TEXTS = [
    "a red circle above a blue square",
    "two small green triangles",
    "a yellow star",
    "the blue circle left of the red star",
]
SIZE, MAX_TOKENS = 16, 12


def fine_model(seed: int = 0) -> TextImageModel:
    tower = {"width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "pooling": "mean"}
    torch.manual_seed(seed)
    model = TextImageModel(
        encoders={
            "image": {**tower, "image_size": SIZE, "patch_size": 8, "stem": "linear"},
            "text": {**tower, "vocab_size": 80, "max_tokens": MAX_TOKENS},
            "head": {"depth": 0, "hidden": 1, "norm": "none"},
            "embed_dim": 8,
        },
        predictors={
            "embed_dim": 8,
            "pooled": {"depth": 0, "hidden": 1, "norm": "none"},
            "tokens": {
                "image_width": 16,
                "text_width": 16,
                "grid": 2,
                "max_tokens": MAX_TOKENS,
                "width": 16,
                "depth": 2,
                "heads": 2,
            },
        },
        ema=False,
    )
    for parameter in model.parameters():  # strong enough that an image makes a difference
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.eval()


TOKENIZER = Tokenizer.train(TEXTS * 3, 80)
MODEL = fine_model()
IMAGES = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
RAW = ((IMAGES + 1) * 127.5).round().to(torch.uint8)
CALIBRATION = fit_fine(MODEL, TOKENIZER, MAX_TOKENS, IMAGES, TEXTS)
CARD = ModelCard({}, "tijepa", SIZE, MAX_TOKENS)


def scorer(model: TextImageModel = MODEL) -> FineScorer:
    return FineScorer(model, TOKENIZER, CARD, CALIBRATION)


def numbers(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_surprise_is_the_negative_log_density_without_its_constant() -> None:
    """By torch's own multivariate normal, which has ½ d log 2π more."""
    r = numbers(200, 3) @ torch.tensor([[1.0, 0.5, 0], [0, 0.3, 0], [0, 0, 2]]).double() + 1.5
    found = Gaussian.fit(r)
    covariance = torch.linalg.inv(found.whiten.T @ found.whiten)
    normal = torch.distributions.MultivariateNormal(found.mean, covariance)
    expected = -normal.log_prob(r) - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.surprise(r), expected)


def test_covariance_is_drawn_a_twentieth_towards_its_mean_variance() -> None:
    """Variances 4 and 0 of one axis each: mean 2, so 0.95 · 4 + 0.1 = 3.9 and 0.1."""
    r = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    whiten = Gaussian.fit(r).whiten
    covariance = torch.linalg.inv(whiten.T @ whiten)
    torch.testing.assert_close(covariance, torch.diag(torch.tensor([3.9, 0.1])).double())


def test_a_word_that_the_image_foretells_better_has_less_energy() -> None:
    """Standard normals for both: E = ½ (r_seen² − r_alone²) = ½ (0.25 − 4) = −1.875."""
    unit = Gaussian(torch.zeros(1).double(), torch.eye(1).double(), torch.zeros(()).double())
    energy = FineCalibration(unit, unit).energy(torch.tensor([[0.5]]), torch.tensor([[2.0]]))
    assert energy.item() == -1.875


def test_calibration_reads_back_as_it_was_written() -> None:
    named = {f"fine.{name}": value.float() for name, value in CALIBRATION.state().items()}
    again = FineCalibration.from_state(named, "fine")
    r = numbers(5, 16)
    torch.testing.assert_close(
        again.energy(r, r + 1), CALIBRATION.energy(r, r + 1), rtol=1e-4, atol=1e-3
    )
    with pytest.raises(KeyError):
        FineCalibration.from_state({}, "fine")


def test_a_word_is_foretold_without_having_been_seen() -> None:
    """Another word in its place changes its target and nothing that foretells it."""
    image = encoded_image(MODEL, IMAGES[:1])
    red, blue = hide_words(
        MODEL, TOKENIZER, ["a red circle above a star", "a blue circle above a star"], MAX_TOKENS
    )
    assert len(red) == len(blue) == 6
    torch.testing.assert_close(
        foretold(MODEL, image, red)[0, 1], foretold(MODEL, image, blue)[0, 1]
    )
    torch.testing.assert_close(red.alone[1], blue.alone[1])
    assert not torch.allclose(red.target[1], blue.target[1])
    assert not torch.allclose(foretold(MODEL, image, red)[0, 2], foretold(MODEL, image, blue)[0, 2])


def test_the_energy_of_a_pair_is_the_sum_over_its_words() -> None:
    found = scorer().energy_of_inputs(IMAGES, TEXTS)
    assert found.shape == (4, 4)
    image = encoded_image(MODEL, IMAGES)
    for column, hidden in enumerate(hide_words(MODEL, TOKENIZER, TEXTS, MAX_TOKENS)):
        r = (hidden.target - foretold(MODEL, image, hidden)).flatten(0, 1)
        alone = (hidden.target - hidden.alone).repeat(4, 1)
        own = CALIBRATION.energy(r, alone).view(4, -1).sum(dim=1)
        torch.testing.assert_close(found[:, column], own.float(), rtol=1e-4, atol=1e-4)


@given(st.permutations(range(4)), st.integers(1, 4))
def test_a_pair_has_the_same_energy_whatever_stands_beside_it(order: list[int], count: int) -> None:
    rows = order[:count]
    whole = scorer().energy_of_inputs(IMAGES, TEXTS)
    some = scorer().energy_of_inputs(IMAGES[rows], [TEXTS[k] for k in rows])
    torch.testing.assert_close(some, whole[rows][:, rows], rtol=1e-4, atol=1e-3)


def test_a_predictor_that_reads_no_image_finds_no_image_better() -> None:
    blind = fine_model()
    assert blind.predictors is not None
    assert blind.predictors.tokens is not None
    part: Any = blind.predictors.tokens.project_in["image"]
    part.weight.data.zero_()
    energy = scorer(blind).energy_of_inputs(IMAGES, TEXTS)
    torch.testing.assert_close(energy, energy[:1].expand(4, -1), rtol=1e-4, atol=1e-3)


def test_words_are_those_of_the_text_and_their_energies_add_up() -> None:
    """Also of a word that the tokenizer cuts in pieces ("triangles" is none of its entries)."""
    text = "two Small trianglestars, red"
    found = scorer().words(RAW, text)
    assert found.words == ["two", "Small", "trianglestars", ",", "red"]
    torch.testing.assert_close(
        found.energy.sum(dim=1), scorer().energy(RAW, [text])[:, 0], rtol=1e-4, atol=1e-3
    )


def test_what_was_cut_off_is_no_word() -> None:
    long = " ".join(["red"] * 30)
    assert scorer().words(RAW[:1], long).words == ["red"] * (MAX_TOKENS - 1)


def test_special_tokens_are_no_words() -> None:
    pieces = TOKENIZER.words("a red star", MAX_TOKENS)
    assert [piece is None for piece in pieces] == [True, False, False, False]
    tokens = TOKENIZER.encode(["a red star"], MAX_TOKENS)
    assert len(pieces) == tokens.ids.shape[1]


def test_a_model_gives_it_by_name_from_images_of_any_kind() -> None:
    from tijepa.inference.calibration import Calibration

    embedder = Embedder(MODEL, TOKENIZER, CARD, Calibration(None, fine=CALIBRATION))
    found = embedder.energy(RAW, TEXTS, form="fine")
    torch.testing.assert_close(found, scorer().energy(RAW, TEXTS))
    assert found.shape == (4, 4)


@pytest.mark.parametrize("lacking", ["calibration", "predictor"])
def test_a_model_that_was_not_trained_for_it_says_what_to_train(lacking: str) -> None:
    model = fine_model()
    assert model.predictors is not None
    if lacking == "predictor":
        model.predictors.tokens = None
    calibration = None if lacking == "calibration" else CALIBRATION
    with pytest.raises(ConfigError, match=r"objective\.tasks\.text_infill"):
        FineScorer(model, TOKENIZER, CARD, calibration)


def test_images_in_parts_give_what_all_at_once_do(monkeypatch: pytest.MonkeyPatch) -> None:
    image = encoded_image(MODEL, IMAGES)
    (hidden,) = hide_words(MODEL, TOKENIZER, TEXTS[:1], MAX_TOKENS)
    whole = word_energies(MODEL, image, hidden, CALIBRATION)
    monkeypatch.setattr("tijepa.inference.fine._TOKENS", 1)
    torch.testing.assert_close(
        word_energies(MODEL, image, hidden, CALIBRATION), whole, rtol=1e-4, atol=1e-4
    )


def test_wording_reads_no_image_and_is_what_the_image_is_compared_with() -> None:
    """E = seen − alone, so E + wording is the surprise with the image, by its own Gaussian."""
    image = encoded_image(MODEL, IMAGES[:1])
    (hidden,) = hide_words(MODEL, TOKENIZER, TEXTS[:1], MAX_TOKENS)
    seen = CALIBRATION.seen.surprise(hidden.target - foretold(MODEL, image, hidden)[0]).sum()
    energy = scorer().energy_of_inputs(IMAGES[:1], TEXTS[:1])[0, 0]
    torch.testing.assert_close(
        energy + scorer().wording(TEXTS[:1])[0], seen.float(), rtol=1e-4, atol=1e-3
    )
