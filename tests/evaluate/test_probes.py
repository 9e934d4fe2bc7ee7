from __future__ import annotations

import math

import pytest
import torch

from tijepa.evaluate.probes import (
    Examples,
    Neighbours,
    Standard,
    _neighbours,
    cross_validate,
    fit_linear,
    fit_neighbours,
)


def blobs(count: int, distance: float, seed: int = 0, classes: int = 2) -> Examples:
    """Unit Gaussians in 4 dimensions whose means stand `distance` apart on the first axis."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.randn(count, 4, generator=generator)
    features[:, 0] += distance * labels
    return Examples(features, labels, torch.arange(count), classes)


def accuracy(logits: torch.Tensor, examples: Examples) -> float:
    return float((logits.argmax(dim=1) == examples.labels).double().mean())


@pytest.mark.parametrize("fit", [fit_linear, fit_neighbours])
def test_a_probe_comes_near_the_best_possible_accuracy(fit: object) -> None:
    """Two unit Gaussians 3 apart: the best accuracy is Φ(1.5) = 0.933."""
    assert callable(fit)
    head = fit(blobs(600, 3.0), seed=0)
    unseen = blobs(2000, 3.0, seed=1)
    assert accuracy(head.logits(unseen.features), unseen) == pytest.approx(0.933, abs=0.03)


def test_standardised_features_have_mean_0_and_deviation_1_and_constants_vanish() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert Standard.of(x)(x).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_noise_gets_a_strong_decay_and_a_clear_case_a_weak_one() -> None:
    """60 features of noise on 100 examples: whatever is fitted to them is wrong for others."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 60, generator=generator), torch.arange(100) % 2
    noise = fit_linear(Examples(x, y, torch.arange(100), 2), seed=0)
    clear = fit_linear(blobs(200, 8.0), seed=0)
    assert noise.decay >= 1
    assert clear.decay <= 0.01


def test_balanced_classes_find_the_rare_one_more_often() -> None:
    examples = blobs(400, 1.0)
    rare = torch.ones(400, dtype=torch.bool)
    rare[(examples.labels == 1).nonzero()[20:, 0]] = False
    few = examples.where(rare)
    unseen = blobs(400, 1.0, seed=1)
    share = {
        balanced: float(
            (
                fit_linear(few, seed=0, balanced=balanced)
                .logits(unseen.features)
                .argmax(dim=1)[unseen.labels == 1]
                == 1
            )
            .double()
            .mean()
        )
        for balanced in (False, True)
    }
    assert share[True] > share[False] + 0.3


def test_votes_of_neighbours_weigh_by_their_cosine() -> None:
    """Along the axes; the query lies at 45° of both, so both vote alike: even odds."""
    standard = Standard(torch.zeros(2, dtype=torch.double), torch.ones(2, dtype=torch.double))
    voters = _neighbours(Examples(torch.eye(2), torch.arange(2), torch.arange(2), 2), 2).voters
    voters.fit(torch.eye(2).double().numpy(), [0, 1])
    head = Neighbours(standard, voters)
    even = head.logits(torch.tensor([[1.0, 1.0]])).softmax(dim=1)
    assert even[0].tolist() == pytest.approx([0.5, 0.5])
    clear = head.logits(torch.tensor([[1.0, 0.0]])).softmax(dim=1)
    votes = 1 / (1 + math.exp(-1 / 0.07))
    assert float(clear[0, 0]) == pytest.approx(votes, abs=1e-3)


def test_more_neighbours_than_examples_are_all_examples() -> None:
    examples = blobs(10, 3.0)
    few = _neighbours(examples, 10).logits(examples.features)
    assert torch.equal(few, _neighbours(examples, 99).logits(examples.features))


def test_cross_validation_never_shows_a_head_what_it_predicts() -> None:
    """A head that knows its examples by heart and says 0 to all others."""

    class ByHeart:
        def __init__(self, examples: Examples) -> None:
            self.known = {tuple(row) for row in examples.features.tolist()}

        def logits(self, features: torch.Tensor) -> torch.Tensor:
            seen = [tuple(row) in self.known for row in features.tolist()]
            return torch.tensor([[0.0, float(s)] for s in seen])

    logits = cross_validate(blobs(40, 1.0), ByHeart, folds=4, seed=0)
    assert logits.tolist() == [[0.0, 0.0]] * 40


def test_a_probe_is_the_same_every_time() -> None:
    examples = blobs(60, 1.0)
    first, second = (fit_linear(examples, seed=3).logits(examples.features) for _ in range(2))
    assert torch.equal(first, second)
