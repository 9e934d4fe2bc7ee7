"""The rivals at values computed by hand from their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Encodings, Objective, ObjectiveOutput, Pooled
from tijepa.objectives.rivals import (
    BarlowObjective,
    CLIPObjective,
    SigLIPObjective,
    VICRegObjective,
)

S = 1 / math.sqrt(2)
BOTH = pytest.mark.parametrize("objective_class", [CLIPObjective, SigLIPObjective])
EVERY = pytest.mark.parametrize(
    "objective_class",
    [CLIPObjective, SigLIPObjective, VICRegObjective, partial(BarlowObjective, redundancy=0.1)],
)


@pytest.fixture
def plain_model(make_model: Callable[..., TextImageModel]) -> TextImageModel:
    """Heads that pass pooled tokens on unchanged."""
    model = make_model(ema=False, predictors=False)
    model.context.image_head = nn.Identity()
    model.context.text_head = nn.Identity()
    return model


def pooled(image: torch.Tensor, text: torch.Tensor, **has: list[bool]) -> Pooled:
    every = [True] * len(image)
    return Pooled(
        image=image,
        text=text,
        target_image=None,
        target_text=None,
        has_image=np.array(has.get("has_image", every)),
        has_text=np.array(has.get("has_text", every)),
    )


def two_pairs() -> Pooled:
    """Images (2, 0) and (0, 3), texts (1, 0) and (1, 1): cosines [[1, 1/√2], [0, 1/√2]]."""
    return pooled(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))


def terms(objective: Objective, model: TextImageModel, given: Pooled) -> ObjectiveOutput:
    return objective.batch_terms(model, given, torch.Generator())


def test_clip_loss_by_hand(plain_model: TextImageModel) -> None:
    """Scale 2: logits [[2, √2], [0, √2]].

    −log softmax of the diagonal is ln(1 + e^{other − own}): by rows with √2 − 2 and −√2, by
    columns with −2 and 0. The loss is the mean of the four.
    """
    objective = CLIPObjective()
    with torch.no_grad():
        objective.logit_scale.fill_(math.log(2))
    gaps = (math.sqrt(2) - 2, -math.sqrt(2), -2.0, 0.0)
    expected = sum(math.log(1 + math.exp(gap)) for gap in gaps) / 4
    got = terms(objective, plain_model, two_pairs())
    assert got.loss.item() == pytest.approx(expected, rel=1e-5)
    assert got.readings["info_nce"].item() == pytest.approx(expected, rel=1e-5)
    assert got.readings["logit_scale"].item() == pytest.approx(2.0)


def test_siglip_loss_by_hand(plain_model: TextImageModel) -> None:
    """Scale 2, bias −1: logits [[1, √2 − 1], [−1, √2 − 1]].

    −log σ(±logit) = ln(1 + e^{∓logit}), minus inside for pairs: exponents −1, 1 − √2 on the
    diagonal, √2 − 1 and −1 beside it; the sum over all four divided by two images.
    """
    objective = SigLIPObjective()
    with torch.no_grad():
        objective.logit_scale.fill_(math.log(2))
        objective.logit_bias.fill_(-1.0)
    exponents = (-1.0, 1 - math.sqrt(2), math.sqrt(2) - 1, -1.0)
    expected = sum(math.log(1 + math.exp(x)) for x in exponents) / 2
    got = terms(objective, plain_model, two_pairs())
    assert got.loss.item() == pytest.approx(expected, rel=1e-5)
    assert got.readings["sigmoid"].item() == pytest.approx(expected, rel=1e-5)
    assert got.readings["logit_bias"].item() == -1.0


def test_clip_starts_at_the_published_temperature(plain_model: TextImageModel) -> None:
    got = terms(CLIPObjective(), plain_model, two_pairs())
    assert got.readings["logit_scale"].item() == pytest.approx(1 / 0.07, rel=1e-5)


def test_the_inverse_temperature_never_exceeds_100(plain_model: TextImageModel) -> None:
    objective = CLIPObjective()
    with torch.no_grad():
        objective.logit_scale.fill_(10.0)
    got = terms(objective, plain_model, two_pairs())
    assert got.readings["logit_scale"].item() == pytest.approx(100.0, rel=1e-5)


@BOTH
def test_temperature_and_both_sides_take_a_gradient(
    objective_class: type[Objective], plain_model: TextImageModel
) -> None:
    objective, given = objective_class(), two_pairs()
    given.image.requires_grad_()
    given.text.requires_grad_()
    terms(objective, plain_model, given).loss.backward()
    for part in (given.image, given.text, *objective.parameters()):
        assert part.grad is not None
        assert part.grad.abs().max() > 0


def test_vicreg_loss_by_hand(plain_model: TextImageModel) -> None:
    """Images (1, 1), (−1, −1), texts (0.5, 0), (−0.5, 0).

    Invariance: both rows differ by (0.5, 1), so 1.25 / 2 = 0.625. Images: variances 2, hinge 0;
    covariance 2, off-diagonal squares 4 + 4 over d = 2: 4. Texts: variances 0.5 and 0, with
    ε = 1e-4 stds 0.7071775 and 0.01, hinges 0.2928225 and 0.99, mean 0.6414112; covariance 0.
    25 · 0.625 + 1 · 4 + 25 · 0.6414112 = 35.660281.
    """
    image = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    text = torch.tensor([[0.5, 0.0], [-0.5, 0.0]])
    got = terms(VICRegObjective(), plain_model, pooled(image, text))
    assert got.loss.item() == pytest.approx(35.660281, abs=1e-4)
    assert got.readings["invariance"].item() == pytest.approx(0.625)


def test_pulling_pairs_together_moves_both_encoders(plain_model: TextImageModel) -> None:
    """No stop-gradient: with spread embeddings the pull on an image is minus that on its text."""
    image = (
        3 * torch.tensor([[1.0, -1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    ).requires_grad_()
    text = (image.detach() + 0.1).requires_grad_()
    terms(VICRegObjective(), plain_model, pooled(image, text)).loss.backward()
    assert image.grad is not None
    assert text.grad is not None
    torch.testing.assert_close(image.grad, torch.full_like(image, -25 * 2 * 0.1 / 8))
    torch.testing.assert_close(image.grad, -text.grad)


def test_barlow_loss_by_hand(plain_model: TextImageModel) -> None:
    """Images (1, 1), (−1, −1), texts (1, −1), (−1, 1): C = [[1, −1], [1, −1]].

    On the diagonal (1 − 1)² + (1 + 1)² = 4, beside it 1 + 1 = 2; 4 + 0.5 · 2 = 5. Variances are 1,
    so that 1e-5 in the root changes the fifth digit.
    """
    image = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    given = pooled(image, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    found = terms(BarlowObjective(redundancy=0.5), plain_model, given)
    assert found.loss.item() == pytest.approx(5.0, abs=1e-3)
    assert found.readings["invariance"].item() == pytest.approx(4.0, abs=1e-3)
    assert found.readings["redundancy"].item() == pytest.approx(2.0, abs=1e-3)


def test_to_barlow_scale_and_place_do_not_matter_and_a_constant_costs_one_a_dimension(
    plain_model: TextImageModel,
) -> None:
    def of(image: torch.Tensor) -> torch.Tensor:
        return terms(BarlowObjective(redundancy=0.5), plain_model, pooled(image, rows)).loss

    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    here, there = of(rows), of(3 * rows + 7)
    torch.testing.assert_close(here, there, atol=1e-3, rtol=1e-3)
    assert of(torch.ones(50, 3)).item() == pytest.approx(3.0)


@EVERY
def test_items_that_lack_a_modality_are_left_out(
    objective_class: Callable[[], Objective], plain_model: TextImageModel
) -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 5, 4, generator=generator)
    mixed = pooled(
        image,
        text,
        has_image=[True, False, True, True, False],
        has_text=[True, True, False, True, False],
    )
    pairs = torch.tensor([0, 3])
    expected = terms(objective_class(), plain_model, pooled(image[pairs], text[pairs])).loss
    assert torch.equal(terms(objective_class(), plain_model, mixed).loss, expected)


@EVERY
@pytest.mark.parametrize("texts", [0, 1])
def test_fewer_than_two_pairs_cost_nothing(
    objective_class: Callable[[], Objective],
    texts: int,
    make_model: Callable[..., TextImageModel],
    make_batch: Callable[..., Batch],
    make_encodings: Callable[[TextImageModel, Batch], Encodings],
    make_pooled: Callable[[Encodings, Batch], Pooled],
) -> None:
    """Also with BatchNorm, which refuses a single row."""
    model = make_model(ema=False, predictors=False, norm="batch")
    batch = make_batch([True] * 4, [True] * texts + [False] * (4 - texts))
    got = terms(objective_class(), model, make_pooled(make_encodings(model, batch), batch))
    assert got.loss.item() == 0.0
    assert got.readings == {}


@EVERY
def test_the_rivals_hide_nothing_and_need_no_targets(
    objective_class: Callable[[], Objective], make_batch: Callable[..., Batch]
) -> None:
    objective = objective_class()
    assert not objective.needs_targets
    drawn = objective.draw_masks(make_batch(), 3, np.random.default_rng(0))
    assert drawn.image is None
    assert drawn.text is None
    assert drawn.part(0, 2) == drawn
