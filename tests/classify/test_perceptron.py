from __future__ import annotations

import torch

from tijepa.evaluate.probes import MOST_EPOCHS, Examples, fit_linear, fit_perceptron


def corners(count: int, seed: int) -> Examples:
    """Class 1 where both signs agree: no line separates it, one hidden layer does."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator)
    return Examples(x, (x[:, 0] * x[:, 1] > 0).long(), torch.arange(count), 2)


def test_it_learns_what_no_line_can_tell() -> None:
    train, unseen = corners(600, 0), corners(400, 1)

    def right(logits: torch.Tensor) -> float:
        return float((logits.argmax(dim=1) == unseen.labels).double().mean())

    assert right(fit_linear(train, seed=0).logits(unseen.features)) < 0.65
    assert right(fit_perceptron(train, seed=0).logits(unseen.features)) > 0.85


def test_it_is_the_same_every_time_and_another_seed_is_another_head() -> None:
    train = corners(80, 0)
    first, second = (fit_perceptron(train, seed=0) for _ in range(2))
    assert torch.equal(first.hidden, second.hidden)
    assert not torch.equal(first.hidden, fit_perceptron(train, seed=1).hidden)


def test_noise_stops_it_early() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 20, generator=generator)
    y = torch.randint(2, (120,), generator=generator)
    head = fit_perceptron(Examples(x, y, torch.arange(120), 2), seed=0)
    assert head.epochs < MOST_EPOCHS / 2
