"""Energies of all pairs, and that joint embeddings carry them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.inference.embeddings import (
    Embeddings,
    cosine_energy,
    embed,
    pair_features,
    squared_l2_energy,
)
from tijepa.model.mlp import BatchTargetNorm
from tijepa.model.text_image_model import TextImageModel
from tijepa.objectives.energies import cosine, squared_l2


def both(model: TextImageModel, image: torch.Tensor, text: torch.Tensor) -> Embeddings:
    return Embeddings.of(embed(model, "image", image), embed(model, "text", text))


def random_embeddings(images: int, texts: int, width: int, seed: int = 0) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    rows = (images, images, texts, texts)
    return Embeddings(*(torch.randn(n, width, generator=generator) for n in rows))


def every_pair(a: torch.Tensor, b: torch.Tensor) -> Sequence[torch.Tensor]:
    return torch.broadcast_tensors(a[:, None], b[None, :])


def test_squared_l2_energy_by_hand() -> None:
    """z_I = (1, 0), g(z_T) = (0, 0), g(z_I) = (2, 2), z_T = (0, 2): ½ (1 + 4) / 2 = 1.25."""
    e = Embeddings(
        image=torch.tensor([[1.0, 0.0]]),
        text_from_image=torch.tensor([[2.0, 2.0]]),
        text=torch.tensor([[0.0, 2.0]]),
        image_from_text=torch.tensor([[0.0, 0.0]]),
    )
    torch.testing.assert_close(squared_l2_energy(e), torch.tensor([[1.25]]))


def test_cosine_energy_by_hand() -> None:
    """cos(z_I, g(z_T)) = 0 and cos(g(z_I), z_T) = 1: ½ (1 − 0 + 1 − 1) = ½."""
    e = Embeddings(
        image=torch.tensor([[1.0, 0.0]]),
        text_from_image=torch.tensor([[2.0, 2.0]]),
        text=torch.tensor([[1.0, 1.0]]),
        image_from_text=torch.tensor([[0.0, 5.0]]),
    )
    torch.testing.assert_close(cosine_energy(e), torch.tensor([[0.5]]))


@given(
    images=st.integers(1, 5),
    texts=st.integers(1, 5),
    width=st.integers(1, 8),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_half_the_squared_distance_of_joint_embeddings_is_the_energy(
    images: int, texts: int, width: int, seed: int
) -> None:
    """‖[a; b] − [c; d]‖² = ‖a − c‖² + ‖b − d‖², summed over dimensions, hence d times the mean."""
    e = random_embeddings(images, texts, width, seed)
    difference = e.joint_image[:, None] - e.joint_text[None, :]
    assert e.joint_image.shape == (images, 2 * width)
    half = difference.square().sum(dim=-1) / 2
    energy = squared_l2_energy(e)
    torch.testing.assert_close(energy * width, half, atol=1e-4, rtol=1e-4)
    to_image = squared_l2(*every_pair(e.image, e.image_from_text))
    to_text = squared_l2(*every_pair(e.text_from_image, e.text))
    torch.testing.assert_close(energy, (to_image + to_text) / 2, atol=1e-4, rtol=1e-4)


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_cosine_energy_is_that_of_joint_embeddings_of_unit_vectors(seed: int) -> None:
    """With four unit vectors half the squared joint distance is 2 (1 − mean cosine) = 2 E."""
    e = random_embeddings(4, 3, 5, seed)
    names = ("image", "text_from_image", "text", "image_from_text")
    unit = Embeddings(*(F.normalize(getattr(e, name), dim=1) for name in names))
    difference = unit.joint_image[:, None] - unit.joint_text[None, :]
    energy = cosine_energy(e)
    torch.testing.assert_close(energy, difference.square().sum(dim=-1) / 4, atol=1e-5, rtol=1e-5)
    expected = cosine(*every_pair(e.image, e.image_from_text))
    expected = expected + cosine(*every_pair(e.text_from_image, e.text))
    torch.testing.assert_close(energy, expected / 2, atol=1e-5, rtol=1e-5)


def test_picking_images_or_texts_picks_rows_or_columns() -> None:
    e = random_embeddings(5, 4, 3)
    whole, some = squared_l2_energy(e), torch.tensor([3, 0])
    torch.testing.assert_close(squared_l2_energy(e.images(some)), whole[some])
    torch.testing.assert_close(squared_l2_energy(e.texts(slice(1, 3))), whole[:, 1:3])


def test_predictors_supply_each_modality_from_the_other(
    make_model: Callable[..., TextImageModel],
) -> None:
    model = make_model().eval()
    image, text = torch.randn(3, 8), torch.randn(2, 8)
    e = both(model, image, text)
    assert model.predictors is not None
    z_image, z_text = model.context.embed_image(image), model.context.embed_text(text)
    torch.testing.assert_close(e.image, z_image)
    torch.testing.assert_close(e.text, z_text)
    torch.testing.assert_close(e.text_from_image, model.predictors.image_to_text(z_image))
    torch.testing.assert_close(e.image_from_text, model.predictors.text_to_image(z_text))


def test_without_predictors_unit_vectors_are_compared(
    make_model: Callable[..., TextImageModel],
) -> None:
    """Then squared L2 is (2 − 2 cos) / d, so both energies rank alike."""
    model = make_model(predictors=False, ema=False).eval()
    e = both(model, torch.randn(3, 8), torch.randn(2, 8))
    for part in (e.image, e.text, e.text_from_image, e.image_from_text):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(len(part)))
    width = e.image.shape[1]
    torch.testing.assert_close(squared_l2_energy(e) * width / 2, cosine_energy(e))


@pytest.mark.parametrize("energy", [squared_l2_energy, cosine_energy])
def test_a_perfect_prediction_has_zero_energy(energy: Callable[[Embeddings], torch.Tensor]) -> None:
    e = random_embeddings(4, 4, 6)
    perfect = Embeddings(e.image, e.text, e.text, e.image)
    matrix = energy(perfect)
    torch.testing.assert_close(matrix.diagonal(), torch.zeros(4), atol=1e-6, rtol=0)
    off_diagonal = matrix[~torch.eye(4, dtype=torch.bool)]
    assert (off_diagonal > 0.01).all()


def test_predictions_are_compared_with_embeddings_normalised_as_in_training(
    make_model: Callable[..., TextImageModel],
) -> None:
    """By the running averages, and after the predictor has read the embedding as it is."""
    plain, normed = make_model(ema=False).eval(), make_model(ema=False).eval()
    assert normed.predictors is not None
    norm = BatchTargetNorm(6, scale=True, epsilon=0.0).eval()
    norm.running_mean.fill_(0.5)
    norm.running_var.fill_(4.0)
    normed.predictors.image_norm = norm
    pooled = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    before, after = both(plain, pooled, pooled), both(normed, pooled, pooled)
    torch.testing.assert_close(after.image, (before.image - 0.5) / 2)
    for name in ("text", "text_from_image", "image_from_text"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_pair_features_by_hand() -> None:
    """d = 4, rows to length 2: z_I = (2,0,0,0), g(z_T) = (0,2,0,0), z_T = (1,1,1,1),
    g(z_I) = (2,0,0,0); the products are z_I · g(z_T) = 0 and g(z_I) · z_T = (2,0,0,0)."""
    e = Embeddings(
        image=torch.tensor([[3.0, 0.0, 0.0, 0.0]]),
        text_from_image=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        text=torch.tensor([[5.0, 5.0, 5.0, 5.0]]),
        image_from_text=torch.tensor([[0.0, 7.0, 0.0, 0.0]]),
    )
    two, other, none = [2.0, 0, 0, 0], [0, 2.0, 0, 0], [0.0] * 4
    ones = [1.0] * 4
    expected = torch.tensor([[*two, *other, *ones, *two, *none, *two]])
    torch.testing.assert_close(pair_features(e, predicts=True), expected)
    expected = torch.tensor([[*two, *ones, *two]])
    torch.testing.assert_close(pair_features(e, predicts=False), expected)
