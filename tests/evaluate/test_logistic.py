from __future__ import annotations

import math

import pytest
import torch

from tijepa.evaluate.probes import balanced_weights, fit_logistic, log_loss


def test_the_bias_of_constant_features_is_the_log_odds_of_the_classes() -> None:
    """Features 0: the weight stays 0, and p = softmax(bias) = (3/4, 1/4); with mean 0 the biases
    are ± ½ ln 3."""
    fitted = fit_logistic(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]), 2, decay=1.0)
    assert fitted.weight.tolist() == [[0.0, 0.0]]
    assert fitted.bias.tolist() == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=1e-6)


def test_class_weights_act_as_copies_of_items() -> None:
    """Weight 3 on the single item of class 1 makes the classes even: biases 0."""
    fitted = fit_logistic(
        torch.zeros(4, 1),
        torch.tensor([0, 0, 0, 1]),
        2,
        decay=1.0,
        class_weights=torch.tensor([1.0, 3.0]),
    )
    assert fitted.bias.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_weight_solves_the_stationary_equation() -> None:
    """Two items x = ± 1 of classes 0 and 1, decay λ = 1/4. By symmetry weight = (w, -w), bias 0.

    The loss is ln(1 + e^(-2w)) + ½ λ · 2 w², so 0 = -2 / (1 + e^(2w)) + 2 λ w, that is
    w (1 + e^(2w)) = 1 / λ = 4. At w = 0.7408: 0.7408 · (1 + e^1.4816) = 0.7408 · 5.4 = 4.000.
    """
    fitted = fit_logistic(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), 2, decay=0.25)
    w = float(fitted.weight[0, 0])
    assert float(fitted.weight[0, 1]) == pytest.approx(-w)
    assert w == pytest.approx(0.7408, abs=1e-4)
    assert w * (1 + math.exp(2 * w)) == pytest.approx(4, abs=1e-5)


def test_it_is_the_same_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    y = torch.randint(3, (60,), generator=generator)
    cold = fit_logistic(x, y, 3, decay=0.01)
    assert torch.equal(cold.weight, fit_logistic(x, y, 3, decay=0.01).weight)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_gradient_is_zero_at_the_minimum(classes: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 4, generator=generator)
    y = torch.randint(classes, (40,), generator=generator)
    fitted = fit_logistic(x, y, classes, decay=0.1)
    residual = fitted(x).softmax(dim=1) - torch.nn.functional.one_hot(y, classes)
    gradient = x.double().T @ residual / 40 + 0.1 * fitted.weight
    assert float(gradient.abs().max()) < 1e-6
    assert float(residual.mean(dim=0).abs().max()) < 1e-6


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    """6 / (3 · 3), 6 / (3 · 2), 6 / (3 · 1)."""
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert balanced_weights(labels, 3).tolist() == pytest.approx([2 / 3, 1, 2])
    assert balanced_weights(labels, 4)[3] == 0


def test_log_loss_of_even_odds_is_the_log_of_the_classes() -> None:
    assert log_loss(torch.zeros(2, 4), torch.tensor([0, 3])) == pytest.approx(math.log(4))
