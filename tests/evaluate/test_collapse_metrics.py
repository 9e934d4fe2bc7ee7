from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.config import load_config
from tijepa.data.pairs import Batch
from tijepa.errors import DataError
from tijepa.evaluate.collapse_metrics import (
    EVERYTHING,
    Learned,
    collapse_metrics,
    effective_rank,
    modality_readings,
    per_dimension_std,
    target_embeddings,
    watched,
)
from tijepa.evaluate.detect import Basis, detect_once
from tijepa.inference.backend import TorchBackend
from tijepa.inference.embeddings import Embeddings, embed
from tijepa.objectives.forward import encode_modality
from tijepa.training.build import build_model


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def pairs(image: Tensor, text: Tensor, g_image: Tensor, g_text: Tensor) -> Embeddings:
    return Embeddings(image=image, text_from_image=g_image, text=text, image_from_text=g_text)


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
    n=st.integers(2, 12), d=st.integers(1, 8), seed=st.integers(0, 999), scale=st.floats(1e-6, 1e6)
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


def test_the_record_of_a_modality_holds_its_mean_and_smallest_deviation() -> None:
    """Dimension 0 holds 0, 1, 2 (deviation 1), dimension 1 a constant: mean 1/2, smallest 0."""
    found = modality_readings(torch.tensor([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0]]))
    assert (found.dimensions, found.mean_std, found.min_std) == (2, 0.5, 0.0)
    assert found.effective_rank == pytest.approx(1.0)


def test_fewer_than_two_items_are_an_error() -> None:
    with pytest.raises(DataError, match="at least 2"):
        modality_readings(torch.ones(1, 4))


def test_constant_embeddings_have_neither_rank_nor_spread_nor_gap() -> None:
    one = torch.full((50, 8), 3.0)
    found = collapse_metrics(pairs(one, one, one, one), {"image": one, "text": one})
    for name in ("image", "text", "image targets", "text targets"):
        assert found[name]["rank"] == found[name]["spread"] == found[name]["std"] == 0.0
    for name in ("image_to_text", "text_to_image"):
        assert found[name] == {"gap": 0.0, "certainty": 0.0}
    assert found["image targets"]["drift"] == 0.0


def test_centred_isotropic_embeddings_use_every_direction_and_have_spread_one() -> None:
    """±e1, ±e2 in the plane: rank 2 of 2; std √(2/3) in each, length 1, so √2 · √(2/3) = 1.15."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = collapse_metrics(pairs(x, x, x, x), {})["image"]
    assert found["rank"] == pytest.approx(2.0)
    assert found["available"] == 2.0
    assert found["spread"] == pytest.approx((4 / 3) ** 0.5)


@pytest.mark.parametrize(("share", "gap"), [(1.0, 2.0), (0.25, 0.5), (0.0, 0.0)])
def test_the_gap_is_twice_the_share_of_variance_explained(share: float, gap: float) -> None:
    """g = ρ z: 2 tr cov(ρ z, z) / Var z = 2 ρ, times n / (n − 1), as only n − 1 are wrong."""
    z = gaussian(200, 16, 0)
    found = collapse_metrics(pairs(z, z, share * z, z), {})["image_to_text"]
    assert found["gap"] == pytest.approx(gap * 200 / 199)
    assert (found["certainty"] > 10) == (share > 0)


def test_the_gap_is_the_mean_over_all_wrong_partners() -> None:
    """Against the double sum over k ≠ l of ‖g_k − z_l‖² − ‖g_k − z_k‖²."""
    g, z = gaussian(12, 3, 1), gaussian(12, 3, 2)
    energy = torch.cdist(g, z).square().double()
    wrong = (energy.sum() - energy.trace()) / (12 * 11)
    marginal = (z - z.mean(0)).square().sum(1).mean()
    expected = float((wrong - energy.trace() / 12) / marginal)
    assert collapse_metrics(pairs(z, z, g, z), {})["image_to_text"]["gap"] == pytest.approx(
        expected, rel=1e-4
    )


def test_each_direction_is_read_from_its_own_prediction() -> None:
    z, noise = gaussian(300, 16, 0), gaussian(300, 16, 1)
    found = collapse_metrics(pairs(z, z, z, noise), {})
    assert found["image_to_text"]["gap"] > 1.9
    assert abs(found["text_to_image"]["gap"]) < 0.2
    assert found["text_to_image"]["certainty"] < 3


def test_drift_is_zero_for_the_same_and_one_for_unrelated_embeddings() -> None:
    """Correlation r, equal variances: E‖c − t‖² = 2 (1 − r) Var, over 2 Var, is 1 − r."""
    z, noise = gaussian(4000, 8, 0), gaussian(4000, 8, 1)
    mixed = 0.6 * z + 0.8 * noise
    same = collapse_metrics(pairs(z, z, z, z), {"image": z, "text": noise})
    assert same["image targets"]["drift"] == 0.0
    assert same["text targets"]["drift"] == pytest.approx(1.0, abs=0.05)
    assert collapse_metrics(pairs(z, z, z, z), {"image": mixed})["image targets"][
        "drift"
    ] == pytest.approx(0.4, abs=0.03)


def test_drift_compares_the_first_items_where_targets_are_fewer() -> None:
    z = gaussian(40, 8, 0)
    assert collapse_metrics(pairs(z, z, z, z), {"image": z[:10]})["image targets"]["drift"] == 0.0


@settings(deadline=None, max_examples=25)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_readings_but_std_are_free_of_scale(scale: float, seed: int) -> None:
    z, g = gaussian(40, 6, seed), gaussian(40, 6, seed + 100)
    one = collapse_metrics(pairs(z, z, g, g), {"image": g})
    other = collapse_metrics(
        pairs(scale * z, scale * z, scale * g, scale * g), {"image": scale * g}
    )
    for subject, values in one.items():
        for name, value in values.items():
            if name != "std":
                assert other[subject][name] == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_what_is_not_finite_is_not_a_number() -> None:
    z = gaussian(20, 4, 0)
    bad = z.clone()
    bad[0, 0] = torch.inf
    found = collapse_metrics(pairs(z, z, bad, z), {})["image_to_text"]
    assert all(value != value for value in found.values())


@pytest.mark.parametrize(
    ("energies", "modalities", "directions"),
    [
        ([], ("image", "text"), ("image_to_text", "text_to_image")),
        (["text_to_image/pooled"], ("image", "text"), ("text_to_image",)),
        (["image_only/tokens"], ("image",), ()),
        (["image_to_text/tokens"], ("image", "text"), ()),
        (["fusion_infill/tokens"], (), ()),
    ],
)
def test_only_what_is_trained_is_watched(
    energies: list[str], modalities: tuple[str, ...], directions: tuple[str, ...]
) -> None:
    assert watched(energies) == (modalities, directions)
    z = gaussian(9, 4, 0)
    found = collapse_metrics(
        pairs(z, z, z, z), {"text": z}, modalities=modalities, directions=directions
    )
    assert [name for name in found if "targets" not in name] == [*modalities, *directions]


@pytest.mark.parametrize(
    ("energies", "learned"),
    [
        ((), EVERYTHING),  # an objective that compares the two
        (("text_to_image/pooled",), Learned(("image", "text"), ("text_to_image",))),
        (("image_only/tokens",), Learned(("image",), ())),
        (("fusion_infill/tokens",), Learned((), ())),
    ],
)
def test_what_is_learned_follows_from_the_energies(
    energies: tuple[str, ...], learned: Learned
) -> None:
    assert watched(energies) == learned


@pytest.mark.parametrize("norm", ["none", "center", "standardise", "layer"])
def test_a_norm_of_the_targets_hides_neither_drift_nor_a_constant(norm: str) -> None:
    """Targets equal to the context's have drift 0; embeddings of mean 5 and std 5e-4 have no
    spread, though the norm, once it has seen them, makes them centred and of length 1 a dimension.
    """
    small = ["data.image_size=16", "model.image.patch_size=8", "model.image.width=16"]
    small += ["model.text.width=16", "model.image.depth=1", "model.text.depth=1"]
    small += ["model.head.norm=none", "objective.pooled_targets=ema"]
    model = build_model(load_config(overrides=[*small, f"objective.pooled_target_norm={norm}"]), 90)
    assert model.predictors is not None
    seeded = torch.Generator().manual_seed(0)
    everyone = torch.ones(40, dtype=torch.bool)
    batch = Batch(
        images=torch.randn(40, 3, 16, 16, generator=seeded),
        has_image=everyone,
        tokens=torch.randint(3, 90, (40, 6), generator=seeded),
        token_mask=torch.ones(40, 6, dtype=torch.bool),
        has_text=everyone,
        indices=torch.arange(40),
        cursor=40,
    )
    with torch.no_grad():
        for head in (model.context.image_head, model.context.text_head):
            last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)][-1]
            last.weight.mul_(1e-3)
            last.bias.fill_(5.0)
        model.update_targets(0.0)
        image = encode_modality(model.context, "image", *batch.inputs("image")).pooled
        text = encode_modality(model.context, "text", *batch.inputs("text")).pooled
        for _ in range(100):  # until the running statistics are those of the batch
            model.predictors.train()
            model.predictors.image_norm(model.context.embed_image(image))
            model.predictors.text_norm(model.context.embed_text(text))
        model.eval()
        e = Embeddings.of(embed(model, "image", image), embed(model, "text", text))
    own = TorchBackend(model, "cpu").before_target_norm(e)
    found = collapse_metrics(e, target_embeddings(model, batch), own=own)
    for name in ("image", "text"):
        assert found[name]["spread"] < 0.01
        assert found[f"{name} targets"]["drift"] == pytest.approx(0.0, abs=1e-6)
    assert "nearly the same" in detect_once(found, Basis(40))[1]
