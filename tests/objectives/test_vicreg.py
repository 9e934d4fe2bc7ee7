"""VICReg between modalities at a value computed by hand, and who takes its gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.base import Pooled
from tijepa.objectives.vicreg import VICRegObjective


@pytest.fixture
def plain_model(make_model: Callable[..., TextImageModel]) -> TextImageModel:
    """Heads that pass pooled tokens on unchanged."""
    model = make_model(ema=False, predictors=False)
    model.context.image_head = nn.Identity()
    model.context.text_head = nn.Identity()
    return model


def pooled(image: torch.Tensor, text: torch.Tensor, has_text: list[bool] | None = None) -> Pooled:
    every = np.ones(len(image), dtype=bool)
    return Pooled(image, text, None, None, every, np.array(has_text or every))


def test_the_loss_by_hand(plain_model: TextImageModel) -> None:
    """Images (1, 1), (−1, −1), texts (0.5, 0), (−0.5, 0).

    Invariance: both rows differ by (0.5, 1), so 1.25 / 2 = 0.625. Images: variances 2, hinge 0;
    covariance 2, off-diagonal squares 4 + 4 over d = 2: 4. Texts: variances 0.5 and 0, with
    ε = 1e-4 stds 0.7071775 and 0.01, hinges 0.2928225 and 0.99, mean 0.6414112; covariance 0.
    25 · 0.625 + 1 · 4 + 25 · 0.6414112 = 35.660281.
    """
    image = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    text = torch.tensor([[0.5, 0.0], [-0.5, 0.0]])
    terms = VICRegObjective().batch_terms(plain_model, pooled(image, text), torch.Generator())
    assert terms.loss.item() == pytest.approx(35.660281, abs=1e-4)
    assert terms.readings["invariance"].item() == pytest.approx(0.625)


def test_pulling_pairs_together_moves_both_encoders(plain_model: TextImageModel) -> None:
    """No stop-gradient: with spread embeddings the pull on an image is minus that on its text."""
    image = (
        3 * torch.tensor([[1.0, -1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    ).requires_grad_()
    text = (image.detach() + 0.1).requires_grad_()
    VICRegObjective().batch_terms(
        plain_model, pooled(image, text), torch.Generator()
    ).loss.backward()
    assert image.grad is not None
    assert text.grad is not None
    torch.testing.assert_close(image.grad, torch.full_like(image, -25 * 2 * 0.1 / 8))
    torch.testing.assert_close(image.grad, -text.grad)


def test_items_without_a_partner_are_left_out(plain_model: TextImageModel) -> None:
    image, text = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    has_text = [True, False, True, True, False]
    kept = torch.tensor(has_text)
    objective, generator = VICRegObjective(), torch.Generator()
    got = objective.batch_terms(plain_model, pooled(image, text, has_text), generator)
    alone = objective.batch_terms(plain_model, pooled(image[kept], text[kept]), generator)
    torch.testing.assert_close(got.loss, alone.loss)
    lone = [True, False, False, False, False]
    assert objective.batch_terms(plain_model, pooled(image, text, lone), generator).loss == 0
