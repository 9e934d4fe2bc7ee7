"""Barlow Twins between modalities at a value computed by hand, and for collapsed embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.barlow import BarlowObjective
from tijepa.objectives.base import ObjectiveOutput, Pooled


@pytest.fixture
def terms(
    make_model: Callable[..., TextImageModel],
) -> Callable[[torch.Tensor, torch.Tensor], ObjectiveOutput]:
    """The loss of embeddings: heads pass pooled tokens on unchanged."""
    model = make_model(ema=False, predictors=False)
    model.context.image_head = nn.Identity()
    model.context.text_head = nn.Identity()

    def of(image: torch.Tensor, text: torch.Tensor) -> ObjectiveOutput:
        every = np.ones(len(image), dtype=bool)
        pooled = Pooled(image, text, None, None, every, every)
        return BarlowObjective(redundancy=0.5).batch_terms(model, pooled, torch.Generator())

    return of


def test_the_loss_by_hand(terms: Callable[[torch.Tensor, torch.Tensor], ObjectiveOutput]) -> None:
    """Images (1, 1), (−1, −1), texts (1, −1), (−1, 1): C = [[1, −1], [1, −1]].

    On the diagonal (1 − 1)² + (1 + 1)² = 4, beside it 1 + 1 = 2; 4 + 0.5 · 2 = 5. Variances are 1,
    so that 1e-5 in the root changes the fifth digit.
    """
    image = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    found = terms(image, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert found.loss.item() == pytest.approx(5.0, abs=1e-3)
    assert found.readings["invariance"].item() == pytest.approx(4.0, abs=1e-3)
    assert found.readings["redundancy"].item() == pytest.approx(2.0, abs=1e-3)


def test_scale_and_place_do_not_matter_and_a_constant_costs_one_a_dimension(
    terms: Callable[[torch.Tensor, torch.Tensor], ObjectiveOutput],
) -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    here, there = terms(rows, rows), terms(3 * rows + 7, rows)
    torch.testing.assert_close(here.loss, there.loss, atol=1e-3, rtol=1e-3)
    assert terms(torch.ones(50, 3), rows).loss.item() == pytest.approx(3.0)
