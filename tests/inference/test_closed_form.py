"""The closed form: canonical directions as heads, regression as predictors, both from moments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tijepa.data.features import FeatureTable, SplitFeatures
from tijepa.inference.closed_form import UNCHOSEN, fit_closed_form, moments_of, solve
from tijepa.inference.embeddings import Embedded, embed
from tijepa.inference.moments import Moments
from tijepa.model.text_image_model import TextImageModel


def linear_model(p: int, q: int, dimension: int) -> TextImageModel:
    """Encoders of pooled width p and q, linear heads and predictors."""
    tower = {"width": 4, "depth": 1, "heads": 2, "mlp_ratio": 1.0, "pooling": "mean"}
    linear = {"depth": 0, "hidden": 1, "norm": "none"}
    return TextImageModel(
        encoders={
            "image": {**tower, "width": p, "image_size": 8, "patch_size": 4, "stem": "linear"},
            "text": {**tower, "width": q, "vocab_size": 9, "max_tokens": 4},
            "head": linear,
            "embed_dim": dimension,
            "fusion": None,
        },
        predictors={"embed_dim": dimension, "pooled": {"kind": "mlp", **linear}, "tokens": None},
        ema=False,
    ).eval()


def table(rows: Sequence[Sequence[Sequence[float]]]) -> FeatureTable:
    """Of items that have these rows."""
    return FeatureTable(
        {
            "rows": np.array([len(own) for own in rows], np.uint32),
            "pooled": np.array([row for own in rows for row in own], np.float32).reshape(-1, 1),
        },
        {},
    )


def sample(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of 4 numbers, texts of 8: three directions shared with falling noise."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    x = torch.cat([shared, noise[:, :1]], dim=1) * 3 + 5
    y = torch.cat([shared + noise[:, 1:4] * torch.tensor([0.2, 0.5, 1.0]), noise[:, 4:9]], dim=1)
    return x, y


def embedded(x: Tensor) -> Embedded:
    return Embedded(x, x)


def test_a_regression_of_one_dimension_by_hand() -> None:
    """x = −1, 1, −1, 1 and y = 0, 4, −2, 2: variances 1 and 5, covariance 2, correlation 2/√5.

    The head of x is √ρ (x − 0) / 1, that of y √ρ (y − 1) / √5, and each predicts the other by ρ:
    for x = 1, z_I = √ρ = .9457 and the predicted z_T = ρ √ρ = .8459; for y = 4, z_T = √ρ · 3/√5.
    Shrinkage towards the own variance changes nothing in one dimension.
    """
    x = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[0.0], [4.0], [-2.0], [2.0]], dtype=torch.float64)
    moments = Moments(1, 1)
    moments.add(x, y)
    model = linear_model(4, 4, 1)
    for modality in ("image", "text"):  # one number from each tower instead of four
        setattr(
            model.context,
            f"{modality}_head",
            type(model.context.image_head)(inputs=1, outputs=1, depth=0, hidden=1, norm="none"),
        )
    solve(model, moments, fit_closed_form(moments, None))
    rho = 2 / math.sqrt(5)
    with torch.no_grad():
        image = embed(model, "image", torch.tensor([[1.0]]))
        text = embed(model, "text", torch.tensor([[4.0]]))
    sign = float(image.embedding.sign())
    assert float(image.embedding) == pytest.approx(sign * math.sqrt(rho), rel=1e-4)
    assert float(image.prediction) == pytest.approx(sign * rho * math.sqrt(rho), rel=1e-4)
    expected = sign * math.sqrt(rho) * 3 / math.sqrt(5)
    assert float(text.embedding) == pytest.approx(expected, rel=1e-4)


def test_captions_stand_beside_their_image_and_items_without_partner_are_left_out() -> None:
    """Items: two captions, no image, no caption, one caption; so the pairs are 1|10, 1|11, 4|40."""
    images = table([[[1.0]], [], [[3.0]], [[4.0]]])
    texts = table([[[10.0], [11.0]], [[20.0]], [], [[40.0]]])
    for at_once in (1, 2, 3, 100):
        parts = list(SplitFeatures(images, texts).pairs(at_once))
        x, y, captions = (torch.cat(side) for side in zip(*parts, strict=True))
        assert x.repeat_interleave(captions, dim=0).flatten().tolist() == [1.0, 1.0, 4.0]
        assert y.flatten().tolist() == [10.0, 11.0, 40.0]
    assert moments_of(SplitFeatures(images, texts)).count == 3


def test_heads_are_uncorrelated_and_predict_each_other_by_their_correlation() -> None:
    """Of shared directions s and s + .2 n, s + .5 n, s + n: correlations 1/√1.04, 1/√1.25, 1/√2."""
    x, y = sample(40_000)
    moments = Moments(4, 8)
    moments.add(x, y)
    model = linear_model(4, 8, 3)
    found = fit_closed_form(moments, (embedded(x[:300]), embedded(y[:300])))
    assert found.heads is None
    solve(model, moments, found)
    assert model.predictors is not None
    with torch.no_grad():
        image, text = (embed(model, m, z.float()) for m, z in (("image", x), ("text", y)))  # type: ignore[arg-type]
    for one in (image, text):
        correlations = torch.corrcoef(one.embedding.T)
        torch.testing.assert_close(correlations, torch.eye(3), atol=0.02, rtol=0)
    expected = torch.tensor([1 / math.sqrt(v) for v in (1.04, 1.25, 2.0)])
    rho = model.predictors.image_to_text.layers[0].weight.diagonal()  # type: ignore[union-attr,index]
    torch.testing.assert_close(rho, expected, atol=0.02, rtol=0)


def test_the_energy_finds_partners_that_it_has_not_seen() -> None:
    """Of 100: at chance one, by three noisy directions many more."""
    (x, y), (u, v) = sample(5_000), sample(100, seed=1)
    moments = Moments(4, 8)
    moments.add(x, y)
    found = fit_closed_form(moments, (embedded(u), embedded(v)))
    assert found.direct is not None
    energies = found.direct.energies(embedded(u), embedded(v))
    own = torch.arange(100)
    assert (energies.images.argmin(dim=0) == own).float().mean() > 0.25
    assert (energies.texts.argmin(dim=1) == own).float().mean() > 0.25


def test_without_held_out_pairs_ridge_and_shrinkage_are_the_usual_ones() -> None:
    moments = Moments(4, 8)
    moments.add(*sample(200))
    direct = fit_closed_form(moments, None).direct
    assert direct is not None
    assert (direct.shrinkage, direct.ridge) == UNCHOSEN
