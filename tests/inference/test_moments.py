"""Moments taken in a piece at a time are those of all pairs at once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.inference.moments import DirectionMoments, Moments


def pairs(count: int, p: int = 3, q: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated, and far from 0: where sums of squares instead of scatters would lose digits."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, p, generator=generator, dtype=torch.float64)
    y = x[:, :q] + 0.1 * torch.randn(count, q, generator=generator, dtype=torch.float64)
    return x + 1000.0, y - 300.0


def moments_of(x: Tensor, y: Tensor) -> Moments:
    found = Moments(x.shape[1], y.shape[1])
    found.add(x, y)
    return found


def assert_equal(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(one.scatter, other.scatter, rtol=1e-9, atol=1e-7)


def test_three_pairs_by_hand() -> None:
    """x = 0, 1, 2 and y = 0, 3, 3: means 1 and 2, scatter Σx² = 2, Σxy = 2 + 1 = 3, Σy² = 6.

    The regression of y on x has the slope 3/2, and of its variance 6/3 = 2 it leaves
    2 − (3/3)² / (2/3) = 1/2. E = ½ r² / ½ − ½ (y − 2)² / 2 + ½ ln(½ / 2); for the first pair, whose
    residual is r = 0 − (2 − 1.5) = −½, E = ¼ − 1 − ln 2.
    """
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [3.0], [3.0]])
    found = Moments(1, 1)
    found.add(x[:1], y[:1])
    found.add(x[1:], y[1:])
    assert found.count == 3
    torch.testing.assert_close(found.mean, torch.tensor([1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(
        found.scatter, torch.tensor([[2.0, 3.0], [3.0, 6.0]], dtype=torch.float64)
    )
    energy = found.directions().calibrated(0.0, 0.0).to_text.energy(x[:1].double(), y[:1].double())
    assert float(energy) == pytest.approx(0.25 - 1 - math.log(2), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_split_in_any_order_gives_the_same(data: st.DataObject) -> None:
    """Some pieces are added, some are merged in as the moments of another process."""
    count = data.draw(st.integers(2, 40))
    x, y = pairs(count, seed=data.draw(st.integers(0, 5)))
    order = torch.tensor(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    pieces, found = order.tensor_split(cuts), Moments(3, 2)
    for piece in pieces:
        if data.draw(st.booleans()):
            found.add(x[piece], y[piece])
        else:
            found.merge(moments_of(x[piece], y[piece]))
    assert_equal(found, moments_of(x, y))


def test_merging_is_symmetric_and_nothing_changes_nothing() -> None:
    x, y = pairs(20)
    one, other = moments_of(x[:7], y[:7]), moments_of(x[7:], y[7:])
    other.merge(one)
    one.merge(moments_of(x[7:], y[7:]))
    one.merge(Moments(3, 2))
    one.add(x[:0], y[:0])
    assert_equal(one, other)


def test_an_image_with_several_captions_is_as_many_pairs() -> None:
    x, _ = pairs(9)
    _, y = pairs(9, seed=1)
    repeats = torch.tensor([2, 0, 3, 1, 0, 0, 0, 2, 1])
    found = Moments(3, 2)
    found.add(x, y, repeats)
    assert_equal(found, moments_of(x.repeat_interleave(repeats, dim=0), y))


def test_a_fold_taken_out_leaves_the_others() -> None:
    x, y = pairs(30)
    rest = moments_of(x, y).without(moments_of(x[5:11], y[5:11]))
    others = torch.cat([torch.arange(5), torch.arange(11, 30)])
    assert_equal(rest, moments_of(x[others], y[others]))


def test_streamed_moments_are_those_of_the_batch_and_so_are_their_calibrations() -> None:
    x, y = pairs(50)
    streamed = Moments(3, 2)
    for start in range(0, 50, 8):
        streamed.add(x[start : start + 8], y[start : start + 8])
    found, whole = streamed.directions(), DirectionMoments.of(x, y)
    for name in ("predicted_mean", "target_mean", "predicted", "cross", "target"):
        one, other = getattr(found.to_text, name), getattr(whole, name)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    both = found.calibrated(0.1, 0.01), Moments.directions(moments_of(x, y)).calibrated(0.1, 0.01)
    for one, other in zip(both[0].state().values(), both[1].state().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
