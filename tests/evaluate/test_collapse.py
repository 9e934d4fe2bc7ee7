from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.errors import DataError
from tijepa.evaluate.collapse import (
    Collapse,
    Learned,
    collapse_readings,
    effective_rank,
    per_dimension_std,
)


def healthy(n: int = 200, d: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian embeddings of n pairs whose partners correlate."""
    random = torch.Generator().manual_seed(seed)
    image = torch.randn(n, d, generator=random)
    return image, 0.8 * image + 0.6 * torch.randn(n, d, generator=random)


def read(image: Tensor, text: Tensor) -> Collapse:
    """Energy: half the squared distance; shuffled: with the text of the next pair."""
    matched = 0.5 * (image - text).square().sum(dim=1)
    shuffled = 0.5 * (image - text.roll(1, dims=0)).square().sum(dim=1)
    return collapse_readings(image, text, matched, shuffled)


def test_effective_rank_of_k_equal_directions_is_k() -> None:
    """±e1, ±e2, ±e3 in 5 dimensions: centred, σ = √2 three times, p = 1/3, rank 3."""
    points = torch.zeros(6, 5)
    for k in range(3):
        points[2 * k, k], points[2 * k + 1, k] = 1.0, -1.0
    assert effective_rank(points) == pytest.approx(3.0)


def test_effective_rank_of_unequal_directions_equals_the_hand_derived_value() -> None:
    """±3e1 and ±e2: σ = 3√2 and √2, p = 3/4 and 1/4, exp(¾ log 4/3 + ¼ log 4) = 4 / 27^¼."""
    points = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(points) == pytest.approx(4 / 27**0.25)


def test_effective_rank_of_one_point_repeated_is_zero_despite_rounding() -> None:
    point = torch.randn(16, generator=torch.Generator().manual_seed(1)) * 1e3
    rounded = point * (1 + 1e-7 * torch.randn(50, 16, generator=torch.Generator().manual_seed(2)))
    assert effective_rank(rounded) == 0.0


def test_effective_rank_of_a_line_is_one_whatever_its_offset() -> None:
    line = torch.arange(10.0)[:, None] * torch.ones(8) + 5.0
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-5)


def test_effective_rank_of_infinite_embeddings_is_not_a_number() -> None:
    assert math.isnan(effective_rank(torch.full((3, 2), math.inf)))


def test_per_dimension_std_divides_by_n_minus_one() -> None:
    """Dimension 0 holds 0, 1, 2 (variance 2/2 = 1), dimension 1 a constant."""
    std = per_dimension_std(torch.tensor([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0]]))
    assert std.tolist() == [1.0, 0.0]


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(2, 12),
    d=st.integers(1, 8),
    seed=st.integers(0, 999),
    scale=st.floats(1e-6, 1e6),
)
def test_effective_rank_is_bounded_and_ignores_scale_order_and_rotation(
    n: int, d: int, seed: int, scale: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=random, dtype=torch.float64)
    rank = effective_rank(x)
    assert 1 - 1e-9 <= rank <= min(n - 1, d) + 1e-9
    rotation = torch.linalg.qr(torch.randn(d, d, generator=random, dtype=torch.float64)).Q
    assert effective_rank(scale * x.flip(0) @ rotation) == pytest.approx(rank, rel=1e-6)


def test_correlated_gaussian_embeddings_are_healthy() -> None:
    readings = read(*healthy())
    assert readings.verdict == "healthy"
    assert readings.image.effective_rank > 25
    assert readings.gap == readings.shuffled_energy - readings.matched_energy > 0
    assert "less energy than shuffled" in readings.reason


def test_constant_embeddings_are_collapsed() -> None:
    constant = torch.ones(200, 32)
    readings = read(constant, constant)
    assert readings.verdict == "collapsed"
    assert "image embeddings are nearly the same" in readings.reason
    assert "text embeddings are nearly the same" in readings.reason


def test_zero_embeddings_are_collapsed() -> None:
    assert read(torch.zeros(50, 8), torch.zeros(50, 8)).verdict == "collapsed"


def test_constant_embeddings_with_bfloat16_noise_are_collapsed() -> None:
    """Rounding noise has full rank, so the rule on spread has to find this one."""
    noise = torch.randn(200, 32, generator=torch.Generator().manual_seed(3))
    noisy = torch.full((200, 32), 2.0) + 2.0 * 2**-8 * noise
    image, _ = healthy()
    assert effective_rank(noisy) > 20
    readings = read(image, noisy)
    assert readings.verdict == "collapsed"
    assert "text embeddings are nearly the same" in readings.reason


def test_rank_one_embeddings_are_collapsed() -> None:
    image, text = healthy()
    direction = torch.randn(32, generator=torch.Generator().manual_seed(4))
    readings = read(image[:, :1] * direction, text[:, :1] * direction)
    assert readings.verdict == "collapsed"
    assert readings.image.effective_rank == pytest.approx(1.0, abs=1e-3)
    assert "image embeddings use 1.0 of 32 directions" in readings.reason


@pytest.mark.parametrize(("dead", "alive"), [("image", "text"), ("text", "image")])
def test_one_dead_modality_is_collapsed_and_named(dead: str, alive: str) -> None:
    image, text = healthy()
    if dead == "image":
        image = image.mean(dim=0).expand_as(image).clone()
    else:
        text = text.mean(dim=0).expand_as(text).clone()
    readings = read(image, text)
    assert readings.verdict == "collapsed"
    assert f"{dead} embeddings" in readings.reason
    assert f"{alive} embeddings" not in readings.reason


def test_varied_embeddings_without_a_gap_are_collapsed() -> None:
    image, _ = healthy(seed=0)
    _, unrelated = healthy(seed=1)
    readings = read(image, unrelated)
    assert readings.verdict == "collapsed"
    assert readings.reason.startswith("matched pairs are not clearly lower")


def test_a_gap_of_one_percent_is_the_bound_on_scale() -> None:
    """Energies without spread, so only the share decides: 2 % passes, 0.5 % does not."""
    image, text = healthy()
    shuffled = torch.full((200,), 4.0)
    assert collapse_readings(image, text, 0.98 * shuffled, shuffled).verdict == "healthy"
    assert collapse_readings(image, text, 0.995 * shuffled, shuffled).verdict == "collapsed"


def test_a_large_gap_by_luck_is_not_enough() -> None:
    """Differences 11, −9 in turn, n = 200: mean 1, std 10, so 1.4 standard errors."""
    image, text = healthy()
    shuffled = torch.full((200,), 20.0)
    matched = shuffled - torch.tensor([11.0, -9.0]).repeat(100)
    assert collapse_readings(image, text, matched, shuffled).verdict == "collapsed"


def test_energies_that_are_not_numbers_are_collapsed() -> None:
    image, text = healthy()
    bad = torch.full((200,), math.nan)
    assert "not all finite" in collapse_readings(image, text, bad, bad).reason


def test_only_what_is_learned_is_judged() -> None:
    """Texts all alike and no gap between the energies, in a run that learns images alone."""
    image, text = healthy()
    alike, energy = torch.ones_like(text), torch.ones(200)
    found = collapse_readings(image, alike, energy, energy, Learned(("image",), ()))
    assert found.verdict == "healthy"
    assert found.reason.endswith("(image) of 32 directions")
    found = collapse_readings(alike, text, energy, energy, Learned(("image",), ()))
    assert (found.verdict, found.reason[:28]) == ("collapsed", "image embeddings are nearly ")
    found = collapse_readings(alike, alike, energy, energy, Learned((), ()))
    assert found.verdict == "unjudged"
    assert found.gap == 0


def test_embeddings_that_are_not_numbers_are_collapsed() -> None:
    image, text = healthy()
    image[3, 3] = math.nan
    energy = torch.ones(200)
    readings = collapse_readings(image, text, energy / 2, energy)
    assert readings.verdict == "collapsed"
    assert readings.reason.startswith("image embeddings are not all finite")


@settings(deadline=None, max_examples=25)
@given(
    scale=st.floats(1e-4, 1e4),
    kind=st.sampled_from(["healthy", "line", "constant", "unrelated"]),
)
def test_the_verdict_does_not_depend_on_scale(scale: float, kind: str) -> None:
    image, text = healthy()
    if kind == "line":
        image = image[:, :1].expand(-1, 32).clone()
    elif kind == "constant":
        text = torch.ones_like(text)
    elif kind == "unrelated":
        text = text.flip(0)
    readings, scaled = read(image, text), read(scale * image, scale * text)
    assert readings.verdict == scaled.verdict == ("healthy" if kind == "healthy" else "collapsed")


@settings(deadline=None, max_examples=25)
@given(n=st.integers(3, 20), seed=st.integers(0, 99))
def test_few_items_alone_never_count_as_few_directions(n: int, seed: int) -> None:
    """64 dimensions cannot show more than n − 1 directions: not the fault of the model."""
    image, text = healthy(n, 64, seed)
    assert "directions (at least" not in read(image, text).reason


def test_fewer_than_two_pairs_are_an_error() -> None:
    with pytest.raises(DataError, match="at least 2"):
        read(torch.ones(1, 4), torch.ones(1, 4))


def test_the_dictionary_is_plain_json() -> None:
    loaded = json.loads(json.dumps(asdict(read(*healthy()))))
    assert set(loaded) == {
        "image", "text", "matched_energy", "shuffled_energy", "gap", "verdict", "reason",
    }  # fmt: skip
    assert set(loaded["text"]) == {"effective_rank", "dimensions", "mean_std", "min_std"}
    assert loaded["text"]["dimensions"] == 32
