"""Padding cannot change outputs, hidden tokens cannot influence them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tijepa.model.encoded import TokenSubset
from tijepa.model.encoders import TextEncoder

POOLINGS = ("mean", "class")
LONGEST = 48


def encoder(pooling: str = "mean") -> TextEncoder:
    torch.manual_seed(0)
    made = TextEncoder(
        vocab_size=50, max_tokens=LONGEST, width=16, depth=2, heads=2, pooling=pooling
    )
    for parameter in made.parameters():  # strong weights: a leak must not hide in rounding
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def ids(length: int, count: int = 2) -> torch.Tensor:
    return torch.randint(1, 50, (count, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("pooling", POOLINGS)
@given(length=st.integers(1, 36), padding=st.integers(1, 12), filler=st.integers(0, 49))
@settings(deadline=None, max_examples=20)
def test_padding_cannot_change_outputs(
    pooling: str, length: int, padding: int, filler: int
) -> None:
    """Also where padding carries a sequence over the threshold from explicit to fused attention."""
    model, short = encoder(pooling), ids(length)
    long = torch.cat([short, torch.full((2, padding), filler)], dim=1)
    alone = model(short, torch.ones_like(short, dtype=torch.bool))
    padded = model(long, torch.arange(length + padding).expand(2, -1) < length)
    torch.testing.assert_close(padded.tokens[:, :length], alone.tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.pooled, alone.pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
@given(shown=st.sets(st.integers(1, 11), max_size=10))
@settings(deadline=None, max_examples=15)
def test_hidden_tokens_cannot_influence_context(pooling: str, shown: set[int]) -> None:
    """Token 0, [CLS], is always shown. The last two columns pad the context with token 0."""
    model, before_ids = encoder(pooling), ids(12)
    chosen = [0, *sorted(shown)]
    index = torch.tensor([*chosen, 0, 0]).expand(2, -1)
    mask = torch.arange(len(chosen) + 2).expand(2, -1) < len(chosen)
    after_ids = before_ids.clone()
    for hidden in set(range(12)) - set(chosen):
        after_ids[:, hidden] = (after_ids[:, hidden] + 7) % 50
    real = torch.ones(2, 12, dtype=torch.bool)
    before = model(before_ids, real, TokenSubset(index, mask))
    after = model(after_ids, real, TokenSubset(index, mask))
    assert torch.equal(before.tokens[mask], after.tokens[mask])
    assert torch.equal(before.pooled, after.pooled)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_shown_token_influences_every_token_and_the_pooled_one(pooling: str) -> None:
    model, before_ids = encoder(pooling), ids(6)
    after_ids = before_ids.clone()
    after_ids[:, 3] = (after_ids[:, 3] + 7) % 50
    index = torch.tensor([[0, 2, 3]]).expand(2, -1)
    visible = TokenSubset(index, torch.ones_like(index, dtype=torch.bool))
    real = torch.ones(2, 6, dtype=torch.bool)
    before, after = model(before_ids, real, visible), model(after_ids, real, visible)
    assert ((before.tokens - after.tokens).abs().amax(dim=2) > 1e-6).all()
    assert ((before.pooled - after.pooled).abs().amax(dim=1) > 1e-6).all()


def test_the_order_of_words_matters() -> None:
    model, straight = encoder(), ids(6, count=1)
    swapped = straight[:, [0, 2, 1, 3, 4, 5]]
    assert straight[0, 1] != straight[0, 2]
    real = torch.ones(1, 6, dtype=torch.bool)
    a, b = model(straight, real).pooled, model(swapped, real).pooled
    assert (a - b).abs().max() > 1e-4


def test_a_shown_token_keeps_its_position() -> None:
    """Showing tokens 0 and 4 is not the same as a caption made of these two tokens."""
    model, full = encoder(), ids(6, count=1)
    index = torch.tensor([[0, 4]])
    real = torch.ones(1, 6, dtype=torch.bool)
    shown = model(full, real, TokenSubset(index, torch.ones_like(index, dtype=torch.bool)))
    alone = model(full[:, [0, 4]], real[:, :2])
    assert (shown.pooled - alone.pooled).abs().max() > 1e-4
    assert torch.equal(shown.position, index)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_permuting_the_batch_permutes_the_output(pooling: str) -> None:
    model, order, tokens = encoder(pooling), torch.tensor([2, 0, 3, 1]), ids(9, count=4)
    mask = torch.arange(9).expand(4, -1) < torch.tensor([[9], [4], [1], [6]])
    straight, permuted = model(tokens, mask), model(tokens[order], mask[order])
    torch.testing.assert_close(
        permuted.tokens[mask[order]], straight.tokens[order][mask[order]], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(permuted.pooled, straight.pooled[order], atol=1e-5, rtol=0)


def test_class_pooling_is_the_first_token_and_mean_pooling_the_mean_of_real_ones() -> None:
    tokens, mask = ids(5), torch.tensor([[True] * 5, [True, True, False, False, False]])
    first = encoder("class")(tokens, mask)
    assert torch.equal(first.pooled, first.tokens[:, 0])
    mean = encoder("mean")(tokens, mask)
    torch.testing.assert_close(mean.pooled[1], (mean.tokens[1, 0] + mean.tokens[1, 1]) / 2)
