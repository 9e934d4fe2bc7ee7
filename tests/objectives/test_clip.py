"""The rivals at values computed by hand from their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tijepa.data.pairs import Batch
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Encodings, Objective, ObjectiveOutput, Pooled
from tijepa.objectives.clip import CLIPObjective, SigLIPObjective

S = 1 / math.sqrt(2)
BOTH = pytest.mark.parametrize("objective_class", [CLIPObjective, SigLIPObjective])


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


@BOTH
def test_items_that_lack_a_modality_are_left_out(
    objective_class: type[Objective], plain_model: TextImageModel
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


@BOTH
@pytest.mark.parametrize("texts", [0, 1])
def test_fewer_than_two_pairs_contrast_nothing(
    objective_class: type[Objective],
    texts: int,
    make_model: Callable[..., TextImageModel],
    make_batch: Callable[..., Batch],
    make_views: Callable[[TextImageModel, Batch], Encodings],
    make_pooled: Callable[[Encodings, Batch], Pooled],
) -> None:
    """Also with BatchNorm, which refuses a single row."""
    model = make_model(ema=False, predictors=False, norm="batch")
    batch = make_batch([True] * 4, [True] * texts + [False] * (4 - texts))
    got = terms(objective_class(), model, make_pooled(make_views(model, batch), batch))
    assert got.loss.item() == 0.0
    assert got.readings == {}


@BOTH
def test_contrastive_objectives_hide_nothing_and_need_no_targets(
    objective_class: type[Objective], make_batch: Callable[..., Batch]
) -> None:
    objective = objective_class()
    assert not objective.needs_targets
    drawn = objective.draw_masks(make_batch(), 3, np.random.default_rng(0))
    assert drawn.image is None
    assert drawn.text is None
    assert drawn.part(0, 2) == drawn
