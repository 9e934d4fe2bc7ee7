from __future__ import annotations

import torch
from torch import nn

from tijepa.model.predictors import CovariancePredictor
from tijepa.objectives.energies import ByCovariance, ByPrediction, squared_l2


def test_by_prediction_compares_what_is_predicted() -> None:
    """Identity as predictor: (1² + 2²) / 2 = 2.5."""
    energy = ByPrediction(squared_l2)(
        nn.Identity(), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])
    )
    torch.testing.assert_close(energy, torch.tensor([2.5]))


def test_by_covariance_takes_in_the_batch_while_training_only() -> None:
    predictor = CovariancePredictor(3, memory=1)
    context, target = torch.randn(8, 3), torch.randn(8, 3)
    predictor.eval()
    ByCovariance()(predictor, context, target)
    assert predictor.seen == 0
    predictor.train()
    energy = ByCovariance()(predictor, context, target)
    assert predictor.seen == 8
    torch.testing.assert_close(predictor.target_mean, target.mean(0))
    torch.testing.assert_close(energy, predictor.energy(context, target))
