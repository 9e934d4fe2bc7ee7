"""The predictor answers queries from the context alone; padding and companions do not count."""

from __future__ import annotations

import pytest
import torch

from tijepa.model.encoded import Encoded
from tijepa.model.predictors import TokenPredictor

WIDTHS = {"image": 12, "text": 8}


def predictor() -> TokenPredictor:
    torch.manual_seed(0)
    made = TokenPredictor(
        image_width=12, text_width=8, grid=3, max_tokens=10, width=16, depth=2, heads=2
    )
    for parameter in made.parameters():  # strong weights: a leak must not hide in rounding
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def encoded(modality: str, real: list[int], width: int) -> Encoded:
    """Tokens at positions 0, 1, ...; row k has `real[k]` of them, the rest is padding."""
    generator = torch.Generator().manual_seed(len(modality))
    tokens = torch.randn(len(real), 9, WIDTHS[modality], generator=generator)[:, :width]
    return Encoded(
        tokens=tokens,
        position=torch.arange(width).expand(len(real), -1),
        mask=torch.arange(width).expand(len(real), -1) < torch.tensor(real)[:, None],
        pooled=tokens[:, 0],
    )


def real(index: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(index, dtype=torch.bool)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("seen", [("image",), ("text",), ("image", "text")])
def test_predictions_have_the_width_of_the_target_modality(
    modality: str, seen: tuple[str, ...]
) -> None:
    index = torch.tensor([[0, 3, 5, 6], [1, 2, 7, 8]])
    context = [(m, encoded(m, [4, 4], 4)) for m in seen]
    assert predictor()(context, modality, index, real(index)).shape == (2, 4, WIDTHS[modality])


def test_padding_of_context_or_queries_changes_no_prediction() -> None:
    model, index = predictor(), torch.tensor([[2, 5], [1, 8]])
    alone = model([("text", encoded("text", [4, 3], 4))], "image", index, real(index))
    wide = torch.cat([index, torch.zeros(2, 3, dtype=torch.long)], dim=1)
    padded = model(
        [("text", encoded("text", [4, 3], 9))], "image", wide, torch.arange(5).expand(2, -1) < 2
    )
    torch.testing.assert_close(padded[:, :2], alone, atol=1e-5, rtol=0)


def test_every_position_gets_its_own_prediction() -> None:
    model, index = predictor(), torch.arange(9)[None, :]
    predicted = model([("text", encoded("text", [4], 4))], "image", index, real(index))[0]
    distance = torch.cdist(predicted, predicted) + torch.eye(9)
    assert distance.min() > 1e-4


def test_the_context_influences_the_prediction() -> None:
    model, index = predictor(), torch.tensor([[2, 5]])
    shown = encoded("text", [4], 4)
    other = Encoded(shown.tokens.flip(2), shown.position, shown.mask, shown.pooled)
    a, b = (model([("text", c)], "image", index, real(index)) for c in (shown, other))
    assert (a - b).abs().max() > 1e-4


def test_a_query_prefers_the_mask_token_of_its_modality() -> None:
    """Only the mask token of the wanted modality takes a gradient."""
    model, index = predictor(), torch.tensor([[2, 5]])
    model([("text", encoded("text", [4], 4))], "image", index, real(index)).sum().backward()
    assert model.mask_token["image"].grad is not None
    assert model.mask_token["text"].grad is None
    assert model.project_out["text"].weight.grad is None
    assert model.project_in["image"].weight.grad is None
